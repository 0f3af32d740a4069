# Targets for packages, and for installing without one. The Makefile includes this file.

PREFIX ?= /usr/local
DESTDIR ?=
# `make deb VERSION=1.2.3 MAINTAINER='Name <address>'` counts; variables of the same name in the environment do not.
given = $(if $(filter command,$(origin $(1))),$(2) '$(subst ','\'',$($(1)))')
PACKAGE = $(BIN)/python packaging/$(1).py $(call given,VERSION,--version) $(call given,MAINTAINER,--maintainer)

.PHONY: deb rpm pyz dist install uninstall vendor lock package-test wheel-test package-cost

##@ Packages
deb: $(VENV)/installed ## make dist/cronlock_VERSION_all.deb (VERSION=1.2.3 MAINTAINER='Name <address>')
	@sh tools/install-deps.sh deb
	$(call PACKAGE,deb)

rpm: $(VENV)/installed ## make dist/cronlock-VERSION-1.noarch.rpm, likewise
	@sh tools/install-deps.sh rpm
	$(call PACKAGE,rpm)

pyz: $(VENV)/installed ## make dist/cronlock.pyz, the program in one file
	$(call PACKAGE,pyz)

dist: $(VENV)/tools ## make the wheel and the source archive, in dist/
	$(BIN)/python packaging/dist.py

install: $(VENV)/installed ## install into PREFIX (/usr/local), below DESTDIR
	$(BIN)/python packaging/install.py install --prefix '$(PREFIX)' --destdir '$(DESTDIR)' --python '$(PYTHON)'

uninstall: $(VENV)/installed ## remove what `make install` with the same PREFIX and DESTDIR installed
	$(BIN)/python packaging/install.py uninstall --prefix '$(PREFIX)' --destdir '$(DESTDIR)'

vendor: $(VENV)/installed ## fetch the pinned dependencies that packages carry
	$(BIN)/python packaging/vendor.py

lock: ## pin the newest versions of those dependencies, with Python 3.9
	$(PYTHON) packaging/lock.py

wheel-test: $(VENV)/tools ## test the wheel under every supported Python that is found (ALL=1: with servers)
	$(BIN)/python packaging/wheel_test.py $(if $(ALL),--all)

package-test: $(VENV)/tools ## install, upgrade, remove and run the packages on clean systems (minutes, as root)
	sh tools/install-deps.sh tests packages emulation
	CRONLOCK_PACKAGE_ROOTS=1 $(BIN)/pytest -v tests/packaging tests/docs/test_quickstart.py tests/docs/test_image.py

package-cost: $(VENV)/tools ## measure what a run costs with each kind of package
	$(BIN)/python packaging/cost.py
