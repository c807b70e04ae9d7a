# Tessera as a container.
#
#   docker build -t tessera .                         for CPUs
#   docker build -t tessera:cuda --build-arg DEVICE=cuda .    then: docker run --gpus all tessera:cuda
#   docker build --build-arg EXTRAS= .                without diffusers: this tree's models only
#
# Any image with Python 3.11 or newer and venv serves as the base.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build

# cpu takes torch from PyTorch's index of CPU wheels; cuda takes PyPI's, which brings CUDA's
# libraries with it, so that the base image needs none. TORCH_INDEX replaces the first, and may be
# empty where pip finds a wheel by itself.
ARG DEVICE=cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

# Extras of pyproject.toml; empty for an image that serves this tree's own models only.
ARG EXTRAS=diffusers

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_INPUT=1
RUN python3 -m venv /opt/tessera
ENV PATH=/opt/tessera/bin:$PATH

# From what changes least to what changes most, so that new code does not install torch again.
WORKDIR /src
COPY constraints.txt ./
RUN case "$DEVICE" in \
      cpu)  pip install -c constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch ;; \
      cuda) pip install -c constraints.txt torch ;; \
      *)    echo "DEVICE is \"$DEVICE\"; expected cpu or cuda" >&2; exit 1 ;; \
    esac
COPY pyproject.toml README.md LICENSE NOTICE ./
RUN pip install -c constraints.txt ".${EXTRAS:+[$EXTRAS]}" && pip uninstall --yes tessera-serve
COPY app app
COPY model model
RUN pip install --no-deps .


FROM ${BASE}

LABEL org.opencontainers.image.title="Tessera" \
      org.opencontainers.image.description="A REST service for image transformers" \
      org.opencontainers.image.licenses="Apache-2.0"

# A number as well as a name: Kubernetes' runAsNonRoot needs the number, torch looks up the name.
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /tmp tessera
COPY --from=build /opt/tessera /opt/tessera

# NVIDIA_…: read by NVIDIA's container runtime, without effect elsewhere.
ENV PATH=/opt/tessera/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    TESSERA_HOST=0.0.0.0 \
    TESSERA_PORT=8000 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

USER 10001:10001
WORKDIR /
EXPOSE 8000

# Whether the process lives, not whether it is ready: what restarts unhealthy containers must not
# restart one that is loading its models or draining. Balancers ask /readyz.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python3", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ['TESSERA_PORT']}/livez\", timeout=4)"]

# The server is process 1 and receives SIGTERM itself: it drains, then exits 0.
STOPSIGNAL SIGTERM
ENTRYPOINT ["tessera"]
CMD ["serve"]
