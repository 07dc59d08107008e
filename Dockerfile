# selfdistill in a container, for a CPU or a GPU:
#
#   docker build -t selfdistill .                      # for a CPU: torch without the CUDA libraries
#   docker build -t selfdistill --build-arg TORCH= .   # for an NVIDIA GPU: torch of the default index, with CUDA
#   docker run --rm -v "$PWD:/work" selfdistill run recipe.yaml
#
# docs/container.md has more: GPUs, the cache of models, your own user, the sandbox.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
COPY . /source
RUN python -m venv /build
RUN /build/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /dist /source

FROM ${BASE}
ARG TORCH="--index-url https://download.pytorch.org/whl/cpu"
ARG EXTRAS=shift,gguf
ARG USER_ID=1000
# The sandbox for programs that a model wrote.
RUN apt-get update && apt-get install --yes --no-install-recommends bubblewrap && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid ${USER_ID} user
COPY --from=build /dist /dist
COPY constraints.txt /dist/constraints.txt
RUN python -m venv /opt/selfdistill
RUN /opt/selfdistill/bin/pip install --no-cache-dir --no-deps ${TORCH} --constraint /dist/constraints.txt torch
RUN /opt/selfdistill/bin/pip install --no-cache-dir --constraint /dist/constraints.txt "$(echo /dist/*.whl)[${EXTRAS}]"
ENV PATH=/opt/selfdistill/bin:$PATH
USER user
WORKDIR /work
ENTRYPOINT ["selfdistill"]
CMD ["--help"]
