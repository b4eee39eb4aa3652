#!/bin/sh
# Fetches and unpacks the packages whose translations the encoder is trained on; nothing is installed.
# usage: fetch_catalogues.sh FOLDER [LIST]     LIST: one package name a line, default: catalogue_packages.txt beside this file
set -eu
folder=${1:?usage: fetch_catalogues.sh FOLDER [LIST]}
list=$(realpath "${2:-$(dirname "$0")/catalogue_packages.txt}")
mkdir -p "$folder/.packages"
cd "$folder"
while read -r package; do
    case "$package" in '' | '#'*) continue ;; esac
    [ -d "$package" ] && continue
    if (cd .packages && apt-get download "$package" >/dev/null 2>&1); then
        mkdir -p "$package"
        dpkg -x "$(ls .packages/"$package"_*.deb | tail -n 1)" "$package"
    else
        echo "not available: $package" >&2
    fi
done <"$list"
rm -rf .packages
