# docker build -t dispatcher .
FROM python:3.11-slim-bookworm AS build
WORKDIR /build
COPY pyproject.toml LICENSE ./
COPY .ci/requirements.lock .ci/requirements.lock
COPY dispatcher dispatcher
RUN python -m venv /opt/dispatcher \
 && /opt/dispatcher/bin/pip install --no-cache-dir --disable-pip-version-check \
      --constraint .ci/requirements.lock ".[smpp,smtp]" \
 && /opt/dispatcher/bin/pip uninstall --yes --quiet pip setuptools

FROM python:3.11-slim-bookworm
# A user with a name: operators' commands note who did what.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent \
      --shell /usr/sbin/nologin dispatcher
COPY --from=build /opt/dispatcher /opt/dispatcher
# Nothing is written but the embedded store's data_dir and /tmp: run it with --read-only --tmpfs /tmp.
ENV PATH=/opt/dispatcher/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    DISPATCHER_CONFIG=/etc/dispatcher/dispatcher.toml \
    HEALTH_URL=http://127.0.0.1:9100/healthz
WORKDIR /var/lib/dispatcher
USER 10001:10001
EXPOSE 8080 9100
# Where only the API runs: -e HEALTH_URL=http://127.0.0.1:8080/healthz
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as http; http.urlopen(os.environ['HEALTH_URL'], timeout=3)"]
ENTRYPOINT ["dispatcher"]
CMD ["worker"]
