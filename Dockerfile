# The engine with all adapters, without embedded servers; which roles it runs, and against which servers, is said when
# it runs: docker build -t horae . && docker run horae --help
FROM python:3.12.12-slim-bookworm AS build
WORKDIR /src
COPY requirements.lock requirements-run.lock ./
RUN python -m venv /tools \
    && /tools/bin/pip install --no-cache-dir --require-hashes -r requirements.lock \
    && python -m venv /horae \
    && /horae/bin/pip install --no-cache-dir --require-hashes -r requirements-run.lock
COPY . .
RUN /tools/bin/pip wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir /wheels . \
    && /horae/bin/pip install --no-cache-dir --no-deps /wheels/*.whl

FROM python:3.12.12-slim-bookworm
RUN useradd --create-home --uid 10001 horae && install --directory --owner=10001 --group=10001 /data
COPY --from=build /horae /horae
ENV PATH=/horae/bin:$PATH HORAE_DATA_DIR=/data HORAE_LOG=json PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /app
VOLUME /data
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=4 CMD ["horae", "health"]
ENTRYPOINT ["horae"]
CMD ["serve"]
