"""What the Python peers share: the cases, the timing loop, and the line protocol.

A peer calls main(name, build, versions); build(case, threads) returns a function that does one whole call. The first line
it writes is {"peer", "ready", "versions"}. Then each line {"case": id, "budget": seconds} read from standard input is
answered by one line {"case", "times": [milliseconds], "other_cores", ...} or {"case", "error"}. {"case": id, "steps": count},
asked of a fresh process, is answered by {"case", "peak_mib", "end_mib", "faults"}; see bench/memoryUse.ts.
"""
import argparse
import gc
import json
import os
import re
import resource
import sys
import time
import types

CASES = os.environ.get("PEERS_CASES", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cases.json"))


def load_cases():
    with open(CASES) as f:
        table = json.load(f)
    return {
        f"{s['id']}/{cell}/{mode}": types.SimpleNamespace(**s, cell=cell, mode=mode, directions=2 if s["bidirectional"] else 1)
        for cell in table["cells"] for s in table["shapes"] for mode in s["modes"]
    }


def machine_busy():
    """Busy seconds of all cores since boot; None where the system does not say."""
    try:
        with open("/proc/stat") as f:
            v = [int(x) for x in f.readline().split()[1:]]
    except OSError:
        return None
    return (v[0] + v[1] + v[2] + v[5] + v[6] + v[7]) / os.sysconf("SC_CLK_TCK")


def measure(step, budget):
    """Times single calls for about `budget` seconds, after a warm-up: at least 3 calls, or 1 if a call takes over 2 s."""
    def timed():
        start = time.perf_counter()
        step()
        return (time.perf_counter() - start) * 1e3

    first = timed()
    start, k = time.perf_counter(), 0
    while first < 2000 and (k < 2 or (time.perf_counter() - start < 0.1 and k < 200)):
        step()
        k += 1
    times, busy, cpu, start = [], machine_busy(), os.times(), time.perf_counter()
    while True:
        times.append(timed())
        if len(times) >= 2000 or (time.perf_counter() - start >= budget and (len(times) >= 3 or times[-1] > 2000)):
            break
    wall, end = time.perf_counter() - start, os.times()
    own = end.user + end.system - cpu.user - cpu.system
    others = 0 if busy is None else max(0, machine_busy() - busy - own)
    return dict(first_ms=first, times=[round(t, 5) for t in times], wall_s=wall, own_cores=own / wall, other_cores=others / wall)


def status(field):
    with open("/proc/self/status") as f:
        return int(re.search(rf"^{field}:\s+(\d+) kB$", f.read(), re.M)[1]) / 1024


def memory_use(build, steps):
    """Memory of so many calls in MiB beyond the idle process, and page faults a call in their second half."""
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")  # the peak begins here
    idle, step, half = status("VmRSS"), build(), steps // 2
    for _ in range(half):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps - half):
        step()
    faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / (steps - half)
    return dict(peak_mib=status("VmHWM") - idle, end_mib=status("VmRSS") - idle, faults=faults)


def main(name, build, versions):
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    threads = parser.parse_args().threads
    cases, current, step = load_cases(), None, None
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not get between the answers

    def say(**answer):
        answers.write(json.dumps(dict(peer=name, **answer)) + "\n")

    say(ready=True, versions=dict(versions, python=sys.version.split()[0], threads=threads))
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if "steps" in asked:
                say(case=asked["case"], **memory_use(lambda: build(cases[asked["case"]], threads), asked["steps"]))
                continue
            if asked["case"] != current:
                step, current = None, None
                gc.collect()
                step, current = build(cases[asked["case"]], threads), asked["case"]
            say(case=current, **measure(step, asked["budget"]))
        except Exception as error:
            say(case=asked["case"], error=f"{type(error).__name__}: {error}")
