#!/bin/sh
# Puts cronlock into an image; run it as root on the machine that becomes one, as Packer's shell
# provisioner does:
#     image.sh PACKAGE [CRONTAB...]
# PACKAGE is a .deb, an .rpm or cronlock.pyz; each CRONTAB goes into /etc/cron.d. Where the lease is
# kept is not in the image: user-data says it.
set -eu

package=$1
shift
# A fresh image has nothing that fires crontabs.
without_cron=
[ $# = 0 ] || command -v crontab >/dev/null || without_cron=yes

case $package in
*.deb)
    # It has no lists of packages either.
    [ -n "$(find /var/lib/apt/lists -name '*_Packages*' -print -quit)" ] || apt-get -qq update
    # With a path apt takes the file, and python3 from the distribution.
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "$(realpath "$package")" \
        ${without_cron:+cron}
    ;;
*.rpm)
    dnf -q -y install "$(realpath "$package")" ${without_cron:+cronie}
    ;;
*.pyz)
    if [ -n "$without_cron" ]; then
        echo "image.sh: there is no cron for $*: install it first" >&2
        exit 69
    fi
    install -m 755 "$package" /usr/local/bin/cronlock
    ;;
*)
    echo "image.sh: $package: neither .deb nor .rpm nor .pyz" >&2
    exit 64
    ;;
esac

for crontab; do
    name=$(basename "$crontab")
    case $name in
    *[!A-Za-z0-9_-]*)
        echo "image.sh: $crontab: cron passes over files in /etc/cron.d with such a name" >&2
        exit 65
        ;;
    esac
    # Every line is wrapped, and nothing of it runs outside the lock.
    cronlock wrap --system --check "$crontab"
    install -m 644 "$crontab" "/etc/cron.d/$name"
done

# It starts, and a run of it works, before anybody depends on it.
cronlock --version
state=$(mktemp -d)
cronlock run --quiet --backend "file://$state" --state-dir "$state" --key image -- true

# What was seen on this machine means nothing on those that are made of it.
rm -rf "$state" /var/lib/cronlock/*
