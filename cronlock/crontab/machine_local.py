"""Recognise jobs that each machine does for itself: wrapped, they would run on one machine only."""

from __future__ import annotations

import re

from .calls import OWN_COMMANDS
from .invocations import Reading, has_random
from .shell import word_set

# Patterns of commands, one a line, by what they concern. A pattern matches the program without its directory and the
# arguments, separated by blanks, from the start to a blank or the end; OWN is a path of `_OWN`.
_ABOUT = {
    "this machine's own hourly, daily, weekly or monthly jobs": r"""
        run-parts .*/etc/(periodic|cron\.)\S*
        anacron
        periodic
    """,
    "this machine's statistics": r"""
        (debian-sa1|sa1|sa2|sadc|atop\S*|vnstat|dstat|iostat|vmstat|mpstat|sensors|collectl|psacct|accton)
    """,
    "this machine's logs": r"""
        (logrotate|savelog|newsyslog|cronolog|logadm|logwatch|logcheck|pflogsumm|journalctl .*--(vacuum|rotate)\S*)
    """,
    "this machine's certificates": r"""
        (certbot|letsencrypt|letsencrypt-auto|certbot-auto)
        (acme\.sh|getssl|acme-client|acmetool|simp_le|uacme|update-ca-certificates|update-ca-trust)
        dehydrated .*(-c|--cron)
        lego .*renew
        fetch-crl
    """,
    "this machine's power": r"""
        (shutdown|reboot|poweroff|halt|telinit|rtcwake|kexec|pm-suspend|init [0-6])
        systemctl .*(reboot|poweroff|halt|suspend|hibernate|kexec)
    """,
    "this machine's disks": r"""
        (fstrim|smartctl|checkarray|mdadm|e2scrub\S*|e4defrag|xfs_fsr|xfs_scrub\S*|hdparm|tune2fs|storcli\S*|megacli\S*)
        (zfs|zpool|btrfs|lvcreate|lvremove|lvs|snapper|timeshift|zfs-auto-snapshot|zfSnap|sanoid|btrbk|snapraid|quotacheck)
        (rsnapshot|rsnapshot-once|backup2l|backup-manager|xfsdump|dumpe2fs|partclone\S*|fsarchiver)
        dd .*if=/dev/\S+.*
        (df|du)
        mount .*
        (warnquota|repquota|edquota)
    """,
    "a backup of this machine's own files": r"""
        (tar|rsync|restic|borg|borgmatic|duplicity|duply|kopia|bup|rdiff-backup|tarsnap|cp|zip|cpio|7z\S*)( \S+)*? OWN
        (dpkg --get-selections|rpm -qa|etckeeper|pacman -Qq\S*|apt-clone|sfdisk|sgdisk|iptables-save|ip6tables-save)
    """,
    "this machine's clock": r"""
        (ntpdate|ntpdate-debian|ntpd|sntp|rdate|hwclock|chronyc|chronyd|ntpdig|timedatectl)
    """,
    "this machine's packages": r"""
        (apt|apt-get|aptitude|unattended-upgrades?|apticron|cron-apt|apt-file|yum|dnf|dnf-automatic|yum-cron|zypper|apk)
        (pacman|paccache|snap|flatpak|brew|emerge|eix-sync|freshclam|needrestart|debsums|popularity-contest|pkg|dpkg)
        (update-motd\S*|updatedb|mandb|makewhatis|ldconfig)
    """,
    "a search of this machine for intruders": r"""
        (rkhunter|chkrootkit|aide|aide\.wrapper|tripwire|lynis|clamscan|clamdscan|maldet|samhain|ossec-\S+|auditctl|usbguard)
        (fail2ban-client|iptables|ip6tables|nft|ipset|ufw|firewall-cmd|csf)
    """,
    "this machine's temporary files": r"""
        (tmpwatch|tmpreaper|systemd-tmpfiles|sessionclean|bleachbit)
        (find|rm)( -\S+)* (OWN|(/tmp|/var/tmp|/var/cache|/var/crash|/run|/dev/shm)(/\S*)?)
        (find|rm)( \S+)*? \S*/(tmp|cache|caches|log|logs|session|sessions)(/\S*)?
        (docker|podman|nerdctl|buildah|crictl) ((system|image|container|volume|builder) prune|rmi)
        (ipcrm|swapoff|sysctl|blockdev)
    """,
    "this machine's services": r"""
        (systemctl|service|rc-service|sv|initctl) .*(restart|reload|start|stop|reset-failed|status)
        invoke-rc\.d
        (supervisorctl|monit|pm2|passenger-config|apachectl|apache2ctl|nginx|php-fpm\S*|rabbitmqctl|rndc|postqueue|exim4?)
        (pkill|killall|pgrep|pidof|kill .*(pid|pgrep)\S*)
        (start-stop-daemon|s6-svc|svc)
    """,
    "this machine's configuration": r"""
        (git( -C \S+)? (pull|fetch|reset|checkout)|svn (up|update)|hg pull)
        (puppet|chef-client|chef-solo|ansible-pull|salt-call|cf-agent|cf-promises|facter|ohai|cloud-init)
        (dhclient|ddclient|inadyn|ip|ifup|ifdown|nmcli|wg|wg-quick|ethtool|resolvconf|noip2|nsupdate|tc)
    """,
    "the monitoring of this machine": r"""
        (check_mk_agent|munin-\S+|node_exporter\S*|telegraf|zabbix_(agent|sender)\S*|nrpe|collectd|netdata|snmp\S+|nagios\S*)
        (mon-put-instance-data\.pl|amazon-cloudwatch-agent\S*|awslogs\S*|omreport|ipmitool|mcelog|ras-mc-ctl|textfile\S*)
    """,
    "cronlock itself": rf"""
        cronlock ({"|".join(sorted(OWN_COMMANDS - {"run"}))})
    """,
}
# Directories with a machine's own files.
_OWN = r"(/|(/etc|/home|/root|/boot|/usr/local|/var/log|/var/spool|/var/lib|/var/mail|/dev)(/\S*)?)"
_PATTERNS = [
    (about, re.compile(rf"(?:{'|'.join(patterns.split(chr(10) + ' ' * 8))})(?= |$)".replace("OWN", _OWN)))
    for about, patterns in ((about, patterns.strip()) for about, patterns in _ABOUT.items())
]
_ELSEWHERE = word_set("ssh kubectl")
# Options whose value is not an operand.
_TAKES_FILE = re.compile(r"--\S*(?:file|from|config|conf|repo(?:sitory)?$|key|exclude)\S*|-[cefiorX]")
_LOOKING = re.compile(r"(?:pgrep|pidof|systemctl .*is-active|service .*status|\S* .*is-running)(?= |$)")


def reason(reading: Reading) -> str | None:
    """Return why each machine should run the line, or None."""
    found = about(reading)
    if found is not None:
        return found
    assigned = " ".join(word.text for invocation in reading.invocations for word in invocation.assignments)
    for invocation in reading.invocations:
        if invocation.sleeps_randomly or (
            invocation.program == "sleep" and "$" in invocation.text and has_random(assigned)
        ):
            return "it sleeps for a random time, as jobs of every machine do"
    return None


def about(reading: Reading) -> str | None:
    """Return what a command of the line concerns on each machine, with its name; or None."""
    for invocation in reading.invocations:
        # Commands that only prepare or report do not count.
        if (invocation is reading.main or invocation.is_job) and not any(
            each.name.split()[0] in _ELSEWHERE for each in invocation.launchers
        ):
            text = " ".join([invocation.program, *_operands(invocation.values)])
            for what, pattern in _PATTERNS:
                if pattern.match(text):
                    return f"it concerns {what} ({invocation.program})"
        elif _LOOKING.match(invocation.text) and invocation is not reading.main:
            return f"it checks a process of this machine ({invocation.program})"
    return None


def _operands(values: list[str]) -> list[str]:
    before = ["", *values]
    return [value for last, value in zip(before, values) if value.startswith("-") or not _TAKES_FILE.fullmatch(last)]
