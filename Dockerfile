# Meltano, the tap, and the loaders of meltano.yml: to be run without root, with a root file system
# that is read-only, and with nothing that outlives a run. docs/running.md says how.
# The Python that all loaders here are tested with.
FROM python:3.11-slim

RUN pip install --no-cache-dir 'meltano[s3]>=4' uv
WORKDIR /drift
COPY . .
# What Meltano keeps of a run goes where it may write.
# Nothing can be compiled once it runs, and every start would do it again.
ENV UV_COMPILE_BYTECODE=1
RUN meltano install && rm -rf .meltano/run .meltano/logs \
    && ln -s /tmp .meltano/run && ln -s /tmp .meltano/logs

ENV HOME=/tmp \
    MELTANO_AUTO_INSTALL=false \
    MELTANO_DATABASE_URI=sqlite:////tmp/meltano.db \
    PYTHONDONTWRITEBYTECODE=1
USER 65534:65534
ENTRYPOINT ["meltano"]
CMD ["run", "tap-drift", "target-postgres"]
