# Packages, and installing without one. Included by the Makefile.

PREFIX ?= /usr/local
DESTDIR ?=
# `make deb VERSION=1.2.3 MAINTAINER='Name <address>'`; such variables of the environment are about something else.
told = $(if $(filter command,$(origin $(1))),$(2) '$(subst ','\'',$($(1)))')
PACKAGE = $(BIN)/python packaging/$(1).py $(call told,VERSION,--version) $(call told,MAINTAINER,--maintainer)

.PHONY: vendor lock deb rpm pyz dist install uninstall package-test wheel-test package-cost

vendor: $(VENV)/installed ## fetch the pinned dependencies that packages carry, once
	$(BIN)/python packaging/vendor.py

lock: ## pin those dependencies anew, by the oldest Python that is found
	$(PYTHON) packaging/lock.py

deb: $(VENV)/installed ## make the Debian package, in dist/
	@sh tools/need.sh deb
	$(call PACKAGE,deb)

rpm: $(VENV)/installed ## make the RPM package, in dist/
	@sh tools/need.sh rpm
	$(call PACKAGE,rpm)

pyz: $(VENV)/installed ## make dist/cronlock.pyz, the program in one file
	$(call PACKAGE,pyz)

dist: $(VENV)/tools ## make wheel and source archive, in dist/
	$(BIN)/python packaging/dist.py

install: $(VENV)/installed ## install into PREFIX (/usr/local), below DESTDIR if that is given
	$(BIN)/python packaging/install.py install --prefix '$(PREFIX)' --destdir '$(DESTDIR)' --python '$(PYTHON)'

uninstall: $(VENV)/installed ## remove all that `make install` installed, with the same PREFIX and DESTDIR
	$(BIN)/python packaging/install.py uninstall --prefix '$(PREFIX)' --destdir '$(DESTDIR)'

wheel-test: $(VENV)/tools ## test the built wheel under every supported Python that is found (ALL=1: with the servers)
	$(BIN)/python packaging/wheel_test.py $(if $(ALL),--all)

package-test: $(VENV)/tools ## install, upgrade, remove and run the packages in roots of their own (takes minutes, as root)
	sh tools/need.sh tests packages
	CRONLOCK_PACKAGE_ROOTS=1 $(BIN)/pytest -v tests/packaging tests/docs/test_quickstart.py tests/docs/test_image.py

package-cost: $(VENV)/tools ## what a run costs as installed by deb, wheel and as cronlock.pyz
	$(BIN)/python packaging/cost.py
