#!/bin/sh
# Installs missing Debian packages if it runs as root; otherwise lists them and stops.
# Each argument is "command:package", or a part of Python that Debian packages separately: "venv" or "tkinter".
set -eu
PATH="$PATH:/usr/sbin:/sbin" # the folders of servers, which are not in the PATH of other users than root

missing=""
for need in "$@"; do
    if [ "$need" = venv ]; then
        "${PYTHON:-python3}" -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
    elif [ "$need" = tkinter ]; then
        "${PYTHON:-python3}" -c 'import tkinter' 2>/dev/null || missing="$missing python3-tk"
    else
        command -v "${need%%:*}" >/dev/null || missing="$missing ${need#*:}"
    fi
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "These system packages are missing:$missing" >&2
    echo "Install them, then run make again. On Debian:  sudo apt-get install --no-install-recommends$missing" >&2
    exit 1
fi
echo "Installing system packages:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -qq -y --no-install-recommends $missing
# The tests start their own servers, so stop a server that the installation started.
if [ -d /run/systemd/system ]; then
    for package in $missing; do
        case $package in redis-server | nginx | caddy | apache2) systemctl disable --quiet --now "$package" ;; esac
    done
fi
