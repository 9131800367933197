# The image of orch. It contains the program, its shared libraries and certificates, and neither a shell nor git:
#   packaging/container-root target/dist/orch target/container
#   docker build --tag orch target/container --file Dockerfile
FROM scratch
COPY . /
USER 65532:65532
ENV HOME=/home/orch
WORKDIR /work
ENTRYPOINT ["/usr/bin/orch"]
