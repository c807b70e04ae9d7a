"""A local Ray cluster that serves `app.ray_serve`; does what its standard input says, line by line.

``scale N`` gives the fleet N replicas, ``kill`` ends one of them at once, ``replicas`` counts them.
Answers each with a line that begins with ``= ``. Ends at the end of its input.
"""

from __future__ import annotations

import sys
from typing import Any

import ray
from ray import serve

from app.ray_serve import FleetArguments, build


def replicas() -> list[Any]:
    """The actors that have models, ready or not."""
    return [
        ray.get_actor(each["name"], namespace=each["namespace"])
        for each in ray.util.list_named_actors(all_namespaces=True)
        if "#Tessera#" in each["name"]
    ]


def main() -> None:
    port, folder, models_per_replica = sys.argv[1:]
    ray.init(
        num_cpus=8,  # as many as are asked for, whatever this machine has
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        _temp_dir=folder,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(port)})

    def scale(count: int) -> None:
        arguments = FleetArguments(
            num_cpus=1,
            min_replicas=count,
            max_replicas=count,
            models_per_replica=int(models_per_replica),
        )
        serve.run(build(arguments))

    scale(1)
    print("= ready", flush=True)
    for line in sys.stdin:
        match line.split():
            case ["scale", count]:
                scale(int(count))
                print("= scaled", flush=True)
            case ["kill"]:
                ray.kill(replicas()[0])
                print("= killed", flush=True)
            case ["replicas"]:
                print(f"= {len(replicas())}", flush=True)
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
