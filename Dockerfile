# docker build -t sparring . && docker run --rm -v "$PWD/runs:/sparring/runs" sparring
# runs the demo on two CPU cores; `docker run ... sparring sparring plan mine.yaml` runs any verb.
FROM python:3.12-slim
# No version of make: a pinned one is gone from Debian's archive when the base image moves on.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /sparring
COPY . .
ENV VENV=/opt/sparring PATH=/opt/sparring/bin:$PATH PIP_NO_CACHE_DIR=1
RUN make /opt/sparring/.ready
CMD ["sparring", "run", "recipes/demo.yaml"]
