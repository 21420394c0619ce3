"""Asks CompatibilityService what people ask, with nothing but reflection, and prints the answers."""

import json
import sys

from reflection import Client, told

client = Client("v1", sys.argv[1])


def ask(name, /, **fields):
    return told(client.call("torchd.v1.CompatibilityService", name, **fields))


RUNTIMES = ["7.3 LTS ML", "7.2 ML", "7.1 ML", "7.0 ML", "6.6 ML", "6.5 ML", "6.4 ML", "6.3 ML", "5.5 LTS ML", "7.3 ML", "5.5 ML"]
MACHINES = {
    "old driver": {
        "driver_version": "470.82.01", "torch": {"version": "2.11.0+cu126"}, "gpus": {"gpus": [{"name": "NVIDIA A10"}]}},
    "Blackwell on cu126": {
        "driver_version": "590.48.01", "torch": {"version": "2.11.0+cu126"}, "gpus": {"gpus": [{"name": "NVIDIA B200"}]}},
    "driver just upgraded": {
        "driver_version": "580.95.05", "nvml_error": 18, "torch": {"version": "2.11.0+cu130"},
        "gpus": {"gpus": [{"name": "NVIDIA A10"}]}},
}
runtimes = {name: ask("GetRuntime", name=name, as_of="2020-10-01") for name in RUNTIMES}
plans = {accelerator: ask("PlanInstall", runtime="7.3.x-scala2.12", accelerator=accelerator, pytorch_version="1.5.0")
         for accelerator in ("ACCELERATOR_GPU", "ACCELERATOR_CPU")}
machines = {name: ask("CheckCompatibility", facts=facts) for name, facts in MACHINES.items()}
print(json.dumps({
    "runtimes": {name: [row["display_name"], row["pytorch_version"], row["support"]] for name, row in runtimes.items()},
    "plans": {accelerator: [step["requirement"] for step in plan["steps"]] for accelerator, plan in plans.items()},
    "machines": {name: [report["verdict"], report["findings"][0]["reason"], report["findings"][0]["remedies"][0]]
                 for name, report in machines.items()},
}, indent=1))
