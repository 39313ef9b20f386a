#!/bin/sh
# Imports an image made of programs that are installed here, with the libraries that they load: for an
# engine that reaches no registry.
#
#   scripts/import-image.sh TAG PROGRAM[:PATH]...
#
# A program is in /bin there, or at PATH. A single one is what the image starts.
set -eu
[ $# -ge 2 ] || {
    echo "usage: import-image.sh TAG PROGRAM[:PATH]..." >&2
    exit 2
}
tag=$1
shift

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
trap 'exit 1' HUP INT TERM

mkdir -p "$tree/etc"
# Without it the C library asks the name server for `localhost` before it reads /etc/hosts.
echo 'hosts: files dns' >"$tree/etc/nsswitch.conf"
for word in "$@"; do
    program=${word%%:*}
    path=$(command -v "$program") || {
        echo "there is no program '$program' here" >&2
        exit 1
    }
    case $word in
    *:/*) inside=${word#*:} ;;
    *) inside=/bin/${program##*/} ;;
    esac
    mkdir -p "$tree${inside%/*}"
    cp -L "$path" "$tree$inside"
    # ldd fails on a static program, which needs no libraries.
    libraries=$(ldd "$path" 2>/dev/null | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// { print $1 }')
    for library in $libraries; do
        [ ! -e "$tree$library" ] || continue
        mkdir -p "$tree${library%/*}"
        cp -L "$library" "$tree$library"
    done
done
# `mktemp` gives access only to the owner, but programs in the image may run as another user.
chmod -R go+rX "$tree"
words=$*
set -- --change 'ENV PATH=/bin'
case $words in
*' '*) ;;
*) set -- "$@" --change "ENTRYPOINT [\"$inside\"]" ;;
esac
tar -c --owner=0 --group=0 -C "$tree" . | docker import "$@" - "$tag" >/dev/null
echo "image $tag: $words"
