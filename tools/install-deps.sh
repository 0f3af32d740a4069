#!/bin/sh
# Installs the Debian packages that a target needs, or prints the command that does.
#     install-deps.sh GROUP...
# venv: a virtual environment. lint: the linters of `make check`. tests: servers and programs of the tests.
# deb, rpm: tools that build those packages. packages: tools that test them. emulation: qemu-user, for other machines.
# browser: Chromium, for the board.
# site: the manual pages in HTML. servers: tools that fetch other versions of servers. bench: cronlock's rivals.
set -eu

missing=

need() { # PROGRAM PACKAGE: PACKAGE brings PROGRAM
    PATH=$PATH:/usr/sbin:/sbin:/usr/share/zookeeper/bin command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

for group; do
    case $group in
    venv)
        need "${PYTHON:-python3}" python3
        "${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
        ;;
    lint)
        need shellcheck shellcheck
        need mandoc mandoc
        need groff groff-base
        ;;
    tests)
        need redis-server redis-server
        need redis-sentinel redis-sentinel
        need memcached memcached
        need zkServer.sh zookeeper
        need etcd etcd-server
        need etcdctl etcd-client
        need mariadbd mariadb-server
        need rsync rsync
        need pgbouncer pgbouncer
        [ -e /usr/lib/galera/libgalera_smm.so ] || missing="$missing galera-4"
        # Debian installs the server's programs outside of PATH.
        ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || need initdb postgresql
        need cron cron
        need crontab cron
        need patch patch
        need ip iproute2
        need unshare util-linux
        need mandoc mandoc
        need groff groff-base
        need shellcheck shellcheck
        need openssl openssl
        need strace strace
        need ps procps
        need bash bash
        need script bsdutils
        need pgrep procps
        need setpriv util-linux
        need flock util-linux
        need systemd-analyze systemd
        need redis-cli redis-tools
        need gcc gcc
        need zsh zsh
        need fish fish
        need mmdebstrap mmdebstrap
        need patchelf patchelf
        ;;
    deb)
        need dpkg-deb dpkg
        ;;
    rpm)
        need rpmbuild rpm
        ;;
    packages)
        need dpkg-deb dpkg
        need rpmbuild rpm
        need cpio cpio
        need lintian lintian
        need rpmlint rpmlint
        need git git
        need redis-cli redis-tools
        need unzip unzip
        ;;
    emulation)
        need update-binfmts binfmt-support
        need qemu-aarch64-static qemu-user-static
        ;;
    browser)
        need chromium chromium
        ;;
    site)
        need mandoc mandoc
        ;;
    servers)
        need npm npm
        need java default-jre-headless
        ;;
    bench)
        need etcd etcd-server
        need etcdctl etcd-client
        need flock util-linux
        ;;
    *)
        echo "install-deps.sh: $group: no such group" >&2
        exit 64
        ;;
    esac
done

[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "missing:$missing (Debian's names); install them and try again" >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    as_root="env"
elif sudo -n true 2>/dev/null; then
    as_root='sudo -n env'
else
    echo "missing packages; as root:  apt-get update && apt-get install$missing" >&2
    exit 1
fi
# One checkout at a time: apt-get waits for other installations, but not for other updates.
# shellcheck disable=SC2086 # lists of words
$as_root DEBIAN_FRONTEND=noninteractive flock /var/lib/dpkg sh -ec '
    apt-get -qq update
    apt-get -qq -y -o DPkg::Lock::Timeout=600 install "$@" >/dev/null
' sh $missing
