"""Running Sluice and others as processes of their own, with their seconds and peak of memory."""

import argparse
import glob
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def options(**defaults):
    """The command line: the binary, a folder for all that is written, and what a script has
    besides, each as `--name` with a default of its type."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True, type=os.path.abspath)
    parser.add_argument("--work", required=True, type=os.path.abspath)
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    found = parser.parse_args()
    os.makedirs(found.work, exist_ok=True)
    return found


def run(command, fsync=True):
    """Seconds, peak MiB and what a command prints; ends with 1 where it fails."""
    environment = dict(os.environ, SLUICE_FSYNC="on" if fsync else "off")
    started = time.monotonic()
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=ROOT
    )
    said, complained = child.stdout.read(), child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    taken = time.monotonic() - started
    if status != 0:
        sys.exit(f"failed: {' '.join(command)}\n{said.decode()}{complained.decode()}")
    return taken, usage.ru_maxrss / 1024, said.decode()


def sluice(binary, command, job, settings, *options):
    """A command line for a job file."""
    line = [binary, command, job, *options]
    for name, value in settings.items():
        line += ["--set", f"{name}={value}"]
    return line


def movements(binary, work, rows):
    """CSV files of so many insurance movements; made once, kept in the work folder."""
    lake = os.path.join(work, f"movements-{rows}")
    if not os.path.isdir(f"{lake}/raw"):
        job = f"{ROOT}/jobs/insurance-movements/1-generate.yaml"
        run(sluice(binary, "run", job, {"lake": lake, "rows": rows}))
    return f"{lake}/raw/*.csv"


def linked(binary, work, rows):
    """A folder with those files, to which others can be added."""
    folder = os.path.join(work, f"movements-{rows}-linked")
    if not os.path.isdir(folder):
        os.makedirs(folder)
        for path in glob.glob(movements(binary, work, rows)):
            os.link(path, os.path.join(folder, os.path.basename(path)))
    return folder


def write_changes(path, count, rows):
    """A CSV file with other values for `count` of the first `rows` movements."""
    with open(path, "w") as changes:
        changes.write("id_mouvement,date_op,produit,type_op,montant,agence_id,pays\n")
        for at in range(count):
            # Numbers without a common factor with the rows: each row comes once.
            number = 1 + (at * 7919 * 2503) % rows
            changes.write(f"M{number:07d},2024-01-31,auto,correction,-1.00,AG_999,FR\n")


def median(runs):
    """Median seconds and largest peak of some runs."""
    return statistics.median(taken for taken, _ in runs), max(peak for _, peak in runs)
