"""``tessera pull``: a model of the Hugging Face Hub, into its cache on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.console import one_line_errors, output
from app.cli.options import download_progress, pipeline_settings
from model.checkpoint import CheckpointError
from model.pipelines.download import download, plan_download
from model.pipelines.hub import PREFIX, HubError, HubName
from model.registry import open_checkpoint


def pull(
    model: Annotated[
        str, typer.Argument(metavar="OWNER/NAME[@REVISION]", help="A repository of the Hub.")
    ],
) -> None:
    """Download a model of the Hugging Face Hub, so that it can be served without a network.

    Only what serving needs: no pickles, no code, no second precisions. Interrupted, it goes on
    where it was. HF_TOKEN opens gated and private ones; HF_HOME and HF_ENDPOINT mean what they do
    for the Hub's own tools.
    """
    with one_line_errors():
        name = HubName.parse(PREFIX + model.removeprefix(PREFIX))
        plan = plan_download(name)
        plan.check_room()
        with download_progress(plan) as report:
            folder = download(plan, report)
        try:
            open_checkpoint(folder).with_loras(pipeline_settings().loras)
        except CheckpointError as error:
            raise HubError(f"{name} is here now, but cannot be served: {error}") from error
        output.print(f"tessera serve {name}", highlight=False, soft_wrap=True)
