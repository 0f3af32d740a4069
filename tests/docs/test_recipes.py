"""Each file of docs/recipes works, as far as a machine outside of a cloud can show."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cronlock.commands.views.prometheus import METRICS
from cronlock.engines.dynamodb import table as dynamodb_table
from cronlock.engines.dynamodb.item import KEY
from cronlock.engines.s3.doctor import RUN_ACTIONS
from cronlock.engines.sqs import wire as sqs_wire
from cronlock.engines.wire.dated import LONGEST
from labs.servers.process import need

from .payloads import CLOUD_INIT, MONIT, NAGIOS, PROMETHEUS, payload
from .scenes import READER, RECIPES
from .stage import Node, Stage, same

_ALERTS_TEST = """
rule_files: [alerts.yml]
tests:
  - interval: 1m
    input_series:
      - {series: 'cronlock_last_success_timestamp_seconds{key="billing", instance="a"}', values: '0x60'}
      - {series: 'cronlock_last_success_timestamp_seconds{key="billing", instance="b"}', values: '0x60'}
      - {series: 'cronlock_lapsed{key="mirror", instance="a"}', values: '1x60'}
      - {series: 'cronlock_last_status{key="report", instance="a"}', values: '0x10 3x50'}
      - {series: 'cronlock_up{instance="a"}', values: '1x20 0x40'}
    alert_rule_test:
      - {eval_time: 14m, alertname: CronlockJobTooOld}
      - eval_time: 20m
        alertname: CronlockJobTooOld
        exp_alerts:
          - exp_labels: {key: billing, severity: page}
            exp_annotations: {summary: billing had no success for 20m 0s}
      - eval_time: 20m
        alertname: CronlockJobDied
        exp_alerts:
          - exp_labels: {key: mirror, severity: ticket}
            exp_annotations: {summary: "mirror died in the middle of a run, and nothing has run it since"}
      - {eval_time: 5m, alertname: CronlockJobFailed}
      - eval_time: 20m
        alertname: CronlockJobFailed
        exp_alerts:
          - exp_labels: {key: report, severity: ticket}
            exp_annotations: {summary: the last run of report had status 3}
      - {eval_time: 20m, alertname: CronlockBackendAway}
      - eval_time: 30m
        alertname: CronlockBackendAway
        exp_alerts:
          - exp_labels: {severity: page}
            exp_annotations: {summary: a machine cannot ask cronlock's backend}
"""

if TYPE_CHECKING:
    from types import ModuleType

# The module that asks AWS, and the actions that only a doctor or --create needs.
_ASKS = [
    ("dynamodb", dynamodb_table, {"CreateTable", "DeleteItem", "DescribeTable"}),
    ("sqs", sqs_wire, {"ListQueues"}),
]

_NAGIOS = """\
cfg_file={here}/nagios.cfg
cfg_file={here}/site.cfg
log_file={here}/log
object_cache_file={here}/cache
status_file={here}/status
check_result_path={here}
temp_path={here}
nagios_user=root
nagios_group=root
"""
# Definitions that every site has.
_SITE = """\
define timeperiod {
 timeperiod_name always
 alias always
}
define contact {
 contact_name ops
 host_notifications_enabled 0
 service_notifications_enabled 0
 host_notification_period always
 service_notification_period always
 host_notification_commands check_cronlock
 service_notification_commands check_cronlock
}
define host {
 host_name web-1
 max_check_attempts 3
 contacts ops
}
define service {
 name generic-service
 max_check_attempts 3
 contacts ops
 check_period always
 register 0
}
"""


@pytest.fixture
def node(stage: Stage) -> Node:
    """Give a machine with cronlock and the recipes."""
    found = stage.node(READER)
    found.take(*RECIPES.iterdir())
    return found


def test_scripts_are_clean() -> None:
    """shellcheck accepts every script."""
    for script in RECIPES.glob("*.sh"):
        checked = subprocess.run([need("shellcheck", "shellcheck"), str(script)], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout


class TestUserData:
    """user-data.yaml, checked and applied by cloud-init."""

    _WRITE = """
import sys, yaml
from cloudinit.config.cc_write_files import write_files
write_files("write_files", yaml.safe_load(open("user-data.yaml"))["write_files"], "root:root")
"""

    @staticmethod
    def _python(node: Node, words: str) -> tuple[int, str]:
        place = payload(CLOUD_INIT) / "usr/lib/python3/dist-packages"
        done = node.type(f"PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={place} /usr/bin/python3 {words}")
        return done.status, done.output

    def test_schema(self, node: Node) -> None:
        """`cloud-init schema` accepts it, and rejects a wrong file."""
        status, output = self._python(node, "-m cloudinit.cmd.main schema -c user-data.yaml")
        assert (status, output.split()[0], output.split()[-1]) == (0, "Valid", "user-data.yaml")
        node.sh("sed 's/permissions:/permisions:/' user-data.yaml >wrong.yaml")
        assert self._python(node, "-m cloudinit.cmd.main schema -c wrong.yaml")[0] != 0

    def test_what_it_writes(self, node: Node) -> None:
        """cronlock and cron accept the files that cloud-init writes, and nobody else can read the password."""
        node.write("apply.py", self._WRITE)
        node.sh("rm /etc/cronlock.conf")
        status, output = self._python(node, "apply.py")
        assert status == 0, output
        assert node.sh("stat -c '%a %U' /etc/cronlock.conf /etc/cron.d/billing") == "600 root\n644 root\n"
        assert node.type("cronlock wrap --check /etc/cron.d/billing").output == ""
        run = node.type("cronlock run --quiet --log stderr --backend-timeout 1 --key billing -- billing")
        # The setup is right, but the Redis of this test speaks no TLS.
        assert run.status == 69
        assert "redis.internal" in run.output
        assert "secret" not in run.output


class TestSystemd:
    """systemd units."""

    @pytest.mark.parametrize("name", ["billing", "cronlock-check"])
    def test_verify(self, node: Node, name: str) -> None:
        """`systemd-analyze verify` accepts the units, and rejects a wrong one."""
        need("systemd-analyze", "systemd")
        verified = node.type(f"systemd-analyze verify --man=no ./{name}.service ./{name}.timer")
        assert (verified.status, verified.output) == (0, "")
        node.sh(f"sed -i s/^Exec/Exce/ {name}.service")
        assert node.type(f"systemd-analyze verify --man=no ./{name}.service").output != ""

    def test_hold_fits_the_timer(self) -> None:
        """The hold is longer than the random delay, and shorter than the period minus that delay."""
        timer, service = ((RECIPES / f"billing.{kind}").read_text() for kind in ("timer", "service"))
        assert "OnCalendar=*:0/5" in timer
        assert "RandomizedDelaySec=2m" in timer
        hold = re.search(r"--min-hold (\d+)s", service)
        assert hold
        assert 120 < int(hold[1]) < 300 - 120

    def test_commands(self, node: Node) -> None:
        """The units' commands work: the job runs, and then the check succeeds."""
        starts = [
            re.findall(r"^ExecStart=(.*)", (RECIPES / name).read_text(), re.M)
            for name in ("cronlock-check.service", "billing.service")
        ]
        (check,), (run,) = starts
        assert node.type(check).status == 2
        assert node.type(run).status == 0
        assert node.ran() == ["billing"]
        assert node.type(check).status == 0


class TestGuardedScript:
    """guarded.sh distinguishes all outcomes."""

    def test_runs_in_part(self, stage: Stage, node: Node) -> None:
        """One machine runs the middle, both run the rest."""
        other = stage.node("one")
        other.take(RECIPES / "guarded.sh")
        first, second = node.sh("./guarded.sh").splitlines(), other.sh("./guarded.sh").splitlines()
        assert [line for line in first if "fence" in line]
        assert "it ran here" in first
        assert second == ["before, on every machine", "it ran elsewhere, or still runs", "after, on every machine"]

    @pytest.mark.parametrize(
        ("status", "word"),
        [
            (69, "did not answer"),
            (75, "half-way"),
            (78, "set up wrongly"),
            (124, "too long"),
            (3, "failed with status 3"),
        ],
    )
    def test_endings(self, node: Node, status: int, word: str) -> None:
        """It prints a line for each of cronlock's statuses and for the command's, and exits with it."""
        node.write("cronlock", f"#!/bin/sh\nexit {status}\n", "755")
        ended = node.type("PATH=.:$PATH ./guarded.sh")
        assert ended.status == status
        assert word in ended.output

    def test_backend_away(self, node: Node) -> None:
        """So it does with the real cronlock, if the backend is down or misconfigured."""
        away = node.type("CRONLOCK_BACKEND=redis://127.0.0.1:1 CRONLOCK_BACKEND_TIMEOUT=1 ./guarded.sh")
        assert away.status == 69
        assert "did not answer" in away.output
        wrong = node.type("CRONLOCK_BACKEND=nonsense://x ./guarded.sh")
        assert wrong.status == 78
        assert "set up wrongly" in wrong.output


class TestMonitoring:
    """Nagios, monit and Prometheus accept their files."""

    @staticmethod
    def _promtool(node: Node, words: str) -> str:
        done = node.type(f"{payload(PROMETHEUS)}/usr/bin/promtool {words}")
        assert done.status == 0, done.output
        return done.output

    def test_rules(self, node: Node) -> None:
        """promtool accepts the rules, and each fires when it should and not before."""
        sample = "Checking alerts.yml\n  SUCCESS: 5 rules found\n"
        assert same(sample, self._promtool(node, "check rules alerts.yml"))
        node.write("alerts_test.yml", _ALERTS_TEST)
        self._promtool(node, "test rules alerts_test.yml")

    def test_rules_use_metrics_that_there_are(self) -> None:
        """Each metric in the rules exists; a rule with another name would never fire."""
        used = set(re.findall(r"cronlock_[a-z_]+", (RECIPES / "alerts.yml").read_text()))
        assert used <= {name for name, _ in METRICS}

    def test_metrics(self, node: Node) -> None:
        """The crontab's line writes a file that promtool accepts, where the alert looks for it."""
        node.sh("cronlock run --key billing -- billing")
        (line,) = [line for line in (RECIPES / "cronlock-metrics").read_text().splitlines() if line[0] != "#"]
        node.sh(line.split("root ", 1)[1])
        target = "/var/lib/node_exporter/cronlock.prom"
        assert 'cronlock_last_status{key="billing"} 0' in node.sh(f"cat {target}")
        self._promtool(node, f"check metrics <{target}")
        files = re.search(r'file=~"([^"]*)"', (RECIPES / "alerts.yml").read_text())
        assert files
        assert re.fullmatch(files[1], target)

    def test_nagios(self, node: Node) -> None:
        """Nagios accepts the definitions, and the check's command works with the service's arguments."""
        here = node.sh("pwd").strip()
        node.write("main.cfg", _NAGIOS.format(here=here))
        node.write("site.cfg", _SITE)
        read = node.type(f"{payload(NAGIOS)}/usr/sbin/nagios4 -v main.cfg")
        assert "Total Errors:   0" in read.output, read.output
        text = (RECIPES / "nagios.cfg").read_text()
        command = re.search(r"command_line +(.*)", text)
        call = re.search(r"check_command +(.*)", text)
        assert command
        assert call
        words = command[1]
        for number, argument in enumerate(call[1].split("!")[1:], 1):
            words = words.replace(f"$ARG{number}$", argument)
        assert node.type(words).status == 2
        node.sh("cronlock run --key billing -- billing")
        assert node.type(words).output.startswith("CRONLOCK OK")

    def test_monit(self, node: Node) -> None:
        """monit accepts the control file, and rejects a wrong one."""
        monit = payload(MONIT) / "usr/bin/monit"
        node.sh("chmod 600 monitrc; sed 's/every/evry/' monitrc >wrong; chmod 600 wrong")
        assert node.type(f"{monit} -t -c monitrc").status == 0
        assert node.type(f"{monit} -t -c wrong").status != 0


class TestAws:
    """Policies allow exactly what the program needs, and the templates create the table that it would create."""

    @pytest.mark.parametrize(("service", "module", "others"), _ASKS)
    def test_policy(self, service: str, module: ModuleType, others: set[str]) -> None:
        """What dynamodb-policy.json and sqs-policy.json allow is what the program asks for, but for `others`."""
        actions = set(re.findall(r'\bself\._?ask\(\s*"(\w+)"', Path(str(module.__file__)).read_text())) - others
        (statement,) = json.loads((RECIPES / f"{service}-policy.json").read_text())["Statement"]
        assert statement["Effect"] == "Allow"
        assert sorted(statement["Action"]) == sorted(f"{service}:{action}" for action in actions)
        assert statement["Resource"].startswith(f"arn:aws:{service}:*:*:")

    def test_tables(self) -> None:
        """dynamodb.yaml and dynamodb.tf name the key as the program does, and none pays for what it does not use."""
        template = (RECIPES / "dynamodb.yaml").read_text()
        assert f"AttributeName: {KEY}, AttributeType: S" in template
        assert f"AttributeName: {KEY}, KeyType: HASH" in template
        assert "BillingMode: PAY_PER_REQUEST" in template
        terraform = (RECIPES / "dynamodb.tf").read_text()
        assert re.search(rf'hash_key += "{KEY}"\n', terraform)
        assert re.search(rf'attribute {{\n +name = "{KEY}"\n +type = "S"\n +}}', terraform)
        assert re.search(r'billing_mode += "PAY_PER_REQUEST"\n', terraform)

    def test_bucket(self) -> None:
        """s3-policy.json allows what a run and the other commands need; the templates make a bucket of that name."""
        objects, listing = json.loads((RECIPES / "s3-policy.json").read_text())["Statement"]
        assert {*objects["Action"], *listing["Action"]} == {f"s3:{action}" for action in RUN_ACTIONS}
        bucket = listing["Resource"].rpartition(":")[2]
        assert objects["Resource"] == f"{listing['Resource']}/cronlock/*"
        template, terraform = ((RECIPES / name).read_text() for name in ("s3.yaml", "s3.tf"))
        assert f"BucketName: {bucket}\n" in template
        assert f'bucket = "{bucket}"\n' in terraform
        # No rule may remove an object with a lease or a hold, which last a year at most.
        for days in re.findall(r"(?:ExpirationInDays: |expiration { days = )(\d+)", template + terraform):
            assert int(days) * 86400 > LONGEST
        assert len(re.findall(r"(?i)noncurrent_?days\W+1\b", template + terraform)) == 2


def test_every_recipe_is_tried() -> None:
    """Each file has a test here or in test_image.py."""
    here = Path(__file__).read_text() + (Path(__file__).parent / "test_image.py").read_text()
    for file in RECIPES.iterdir():
        assert file.name in here or f'"{file.stem}"' in here, file.name
