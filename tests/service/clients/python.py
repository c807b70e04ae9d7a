"""Asks a service as these clients come, but for its address. Prints a line for each that did."""

from __future__ import annotations

import base64
import os
import sys
from io import BytesIO

import httpx

BASE = f"{sys.argv[1]}/v1"
PNG = b"\x89PNG\r\n\x1a\n"

os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}


def langchain() -> None:
    from langchain_community.tools.openai_dalle_image_generation import (
        OpenAIDALLEImageGenerationTool,
    )
    from langchain_community.utilities.dalle_image_generator import DallEAPIWrapper

    wrapper = DallEAPIWrapper(api_key="unused", base_url=BASE, model="dall-e-3", size="64x64")
    assert httpx.get(wrapper.run("red apple")).content.startswith(PNG)
    tool = OpenAIDALLEImageGenerationTool(api_wrapper=wrapper)
    assert httpx.get(tool.invoke("red apple")).content.startswith(PNG)


def litellm() -> None:
    import litellm as client

    how = {"api_base": BASE, "api_key": "unused"}
    for provider in ("openai", "hosted_vllm", "litellm_proxy"):
        name = f"{provider}/gpt-image-1"
        answer = client.image_generation(prompt="red apple", model=name, n=2, size="32x32", **how)
        files = [base64.b64decode(image.b64_json) for image in answer.data]
        assert [file[:8] for file in files] == [PNG, PNG], provider
    picture = BytesIO(files[0])
    picture.name = "a.png"
    answer = client.image_edit(image=[picture], prompt="green", model="openai/gpt-image-1", **how)
    assert base64.b64decode(answer.data[0].b64_json).startswith(PNG)


for each in (langchain, litellm):
    each()
    print(each.__name__)
