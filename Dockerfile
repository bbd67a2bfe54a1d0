# The engine with all adapters; which roles it runs, and against which servers, is said when it runs:
#   docker build -t horae . && docker run horae --help
FROM python:3.12-slim AS build
WORKDIR /src
COPY requirements.lock .
RUN python -m venv /horae \
    && /horae/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY . .
RUN /horae/bin/pip install --no-cache-dir --no-build-isolation --no-deps .

FROM python:3.12-slim
RUN useradd --create-home --uid 10001 horae && install -d -o horae /data
COPY --from=build /horae /horae
ENV PATH=/horae/bin:$PATH HORAE_DATA_DIR=/data HORAE_LOG=json PYTHONUNBUFFERED=1
USER horae
WORKDIR /app
VOLUME /data
ENTRYPOINT ["horae"]
CMD ["serve"]
