"""How much faster a gpt draws a whole image with its KV cache than without.

    python -m bench.cached_decoding [--tile 16] [--threads 1] [--dtype bf16]

Without a cache every place of the image runs the sequence so far through the network once more.
Random weights of the shape that `tessera train --family gpt` makes: speed does not depend on them.
Seconds are CPU time of the process, which the machine's other work hardly lengthens.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from model.gpt.config import GptConfig
from model.gpt.network import Gpt
from model.gpt.passes import GptPasses
from model.runtime.numerics import configure_determinism


def best(work: Callable[[], object], times: int = 3) -> float:
    """CPU seconds of the fastest of some runs."""
    seconds = []
    for _ in range(times):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tile", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--prompt", type=int, default=8, help="tokens")
    given = parser.parse_args()
    configure_determinism("cpu", given.threads)
    config = GptConfig()
    network = Gpt(config).eval().requires_grad_(False)
    network.to(torch.bfloat16 if given.dtype == "bf16" else torch.float32)
    transformer, places = network.transformer, config.codec.places
    passes = GptPasses(network, given.tile, "eager")
    begin = config.max_tokens + 1

    def cached() -> None:
        passes.prefill.launch(given.tile)
        positions = passes.token.inputs().positions
        for place in range(places):
            positions.fill_(begin + place)
            passes.token.fetch(given.tile)

    def uncached() -> None:
        head = transformer.code_head
        for place in range(places):
            length = given.prompt + 2 + place
            shape = given.tile, length, transformer.layout.per_position
            ids = torch.zeros(shape, dtype=torch.long)
            first = torch.zeros(given.tile, dtype=torch.long)
            state = transformer(ids, first)[:, -1]
            for number in range(config.codec.codes):
                code = head.logits(state, number).argmax(-1)
                if number + 1 < config.codec.codes:
                    state = head.after(state, number, code)

    cached()
    fast, slow = best(cached), best(uncached)
    images = given.tile // 2
    print(f"cached: {fast:.2f} CPU s for {images} guided images of {places} places")
    print(f"uncached: {slow:.2f} CPU s, {slow / fast:.1f} times as long")


if __name__ == "__main__":
    main()
