# One image for every process of ours; the command says which: `docker run IMAGE connector binance`. See docker-compose.yml.
# The digest names the base exactly; Dependabot renews it. tests/ops/test_image_commands.py runs the first stage's commands as they stand here.

FROM python:3.13.9-slim-bookworm@sha256:b685a4fa58bb19d1814d78a1ec0f0208f351452724f78b20212c984d6e124a34 AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# Wheels only, each by the hash in the lock: nothing is compiled, so there is no compiler, here or later.
COPY requirements.lock requirements-dev.lock ./
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --require-hashes --only-binary :all: -r requirements.lock
# What builds our own package has its pin in the other lock.
RUN python -m venv /opt/build \
    && awk '/^[a-z]/ { wanted = /^setuptools==/ } wanted' requirements-dev.lock > build.lock \
    && /opt/build/bin/pip install --require-hashes --only-binary :all: -r build.lock
COPY . .
RUN /opt/build/bin/pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /opt/wheels . \
    && pip --python /opt/venv/bin/python install --no-deps --no-index /opt/wheels/*.whl


FROM python:3.13.9-slim-bookworm@sha256:b685a4fa58bb19d1814d78a1ec0f0208f351452724f78b20212c984d6e124a34

ARG VERSION=local
LABEL org.opencontainers.image.title="tradebot" \
      org.opencontainers.image.description="Event-driven crypto trading: connectors, a plugin bot and a recorder that meet on Redis Streams" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}"

# SAFEPATH: what lies in the working directory, plugins for one, is never imported in place of a library.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONFAULTHANDLER=1 \
    PYTHONSAFEPATH=1 \
    TRADEBOT_HOME=/var/lib/tradebot \
    HOME=/tmp

# A new volume takes the mode of the folder that it covers: whoever the container runs as may write there, and others cannot remove it.
RUN groupadd --gid 10001 tradebot \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin tradebot \
    && install --directory --mode 1777 /var/lib/tradebot /var/lib/tradebot/logs

COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY config config
COPY plugins plugins

USER 10001:10001
EXPOSE 5000 5002 5003 8001 9001
VOLUME /var/lib/tradebot
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-m", "tradebot.health_check"]
ENTRYPOINT ["tradebot"]
CMD ["--help"]
