# One image for every part: worker, beat, flower, metrics, and each command of `overnight`.

FROM python:3.12-slim AS build
# More packages, pinned or not: "s3fs" for s3:// storage, "gcsfs" for gs://, "toktok-rs" to count tokens, what your
# agents need.
ARG EXTRA_PACKAGES=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/overnight
ENV PATH=/opt/overnight/bin:$PATH
WORKDIR /src
COPY pyproject.toml constraints.txt ./
# What it depends on, in a layer of its own: it changes seldom, the code often.
RUN python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
      print(*p["dependencies"], *p["optional-dependencies"]["server"], sep="\n")' > dependencies.txt \
 && pip install --quiet -c constraints.txt -r dependencies.txt "setuptools>=77" ${EXTRA_PACKAGES}
COPY README.md LICENSE ./
COPY limits limits
COPY workers workers
COPY tasks tasks
RUN pip install --quiet --no-deps --no-build-isolation . && pip uninstall --quiet --yes setuptools pip

FROM python:3.12-slim
RUN groupadd --gid 10001 overnight \
 && useradd --system --uid 10001 --gid overnight --home-dir /var/lib/overnight --no-create-home \
      --shell /usr/sbin/nologin overnight \
 && install --directory --owner overnight --group overnight /var/lib/overnight \
 && mkdir /etc/overnight
COPY --from=build /opt/overnight /opt/overnight
COPY deploy/healthy.sh /usr/local/bin/healthy
ENV PATH=/opt/overnight/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    OVERNIGHT_CONFIG=/etc/overnight/overnight.toml \
    OVERNIGHT_HEARTBEAT=/tmp/overnight.heartbeat
USER overnight
# Not the volume: what another container writes there must never be imported.
WORKDIR /
VOLUME /var/lib/overnight
CMD ["overnight", "worker"]
