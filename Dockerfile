# One image for every process of the platform: `docker run IMAGE gateway`, `… worker`, `… projector`.

FROM python:3.11.14-slim-trixie AS build
WORKDIR /src
RUN python -m venv /opt/soma
ENV PATH=/opt/soma/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# The locks first: this layer is built anew only when they change.
COPY requirements/build.txt requirements/run.txt requirements/
RUN pip install --require-hashes -r requirements/build.txt -r requirements/run.txt
COPY pyproject.toml README.md ./
COPY commands commands
COPY gateway gateway
COPY ops ops
COPY projections projections
COPY schemas schemas
COPY streams streams
RUN pip install --no-deps --no-build-isolation .

FROM python:3.11.14-slim-trixie
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/soma soma \
 && install --directory --owner soma --group soma --mode 0700 /var/lib/soma
COPY --from=build /opt/soma /opt/soma
ENV PATH=/opt/soma/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 SOMA_DATA_DIR=/var/lib/soma
USER 10001:10001
WORKDIR /var/lib/soma
VOLUME /var/lib/soma
EXPOSE 8010
ENTRYPOINT ["soma"]
CMD ["gateway"]
