# Both images, from the static binaries that scripts/binaries.sh puts into dist/<architecture>.
# Nothing is compiled or pulled here, so a builder that makes every stage costs nothing.

FROM scratch AS server
ARG TARGETARCH
COPY dist/${TARGETARCH}/ringmaster-server /ringmaster-server
USER 65532:65532
EXPOSE 5000
ENTRYPOINT ["/ringmaster-server"]

FROM scratch AS balancer
ARG TARGETARCH
COPY dist/${TARGETARCH}/ringmaster /ringmaster
# An empty directory: a fresh volume mounted on it inherits its owner.
COPY --chown=65532:65532 dist/${TARGETARCH}/state /state
USER 65532:65532
EXPOSE 5000 9090
ENTRYPOINT ["/ringmaster"]
CMD ["serve", "--config", "/etc/ringmaster.toml"]
