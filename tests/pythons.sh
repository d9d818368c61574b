#!/bin/sh
# Runs pytest with the given arguments on each Python of this machine from 3.11 on, one interpreter for each minor
# version. Each one gets its own environment below .venv.
set -u

found=""
failed=""
for candidate in python3.11 python3.12 python3.13 python3.14 "$HOME"/.pyenv/versions/*/bin/python; do
    # pyenv has shims for versions that are not active, so run the candidate to find out.
    version=$("$candidate" -c 'import ensurepip, sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    case $version in 3.1[1-9]) ;; *) continue ;; esac
    case " $found " in *" $version "*) continue ;; esac
    found="$found $version"
    environment=.venv/python$version
    echo "== Python $version ($candidate)"
    if ! { [ -x "$environment/bin/pip" ] || "$candidate" -m venv "$environment"; } ||
        ! "$environment/bin/pip" install --quiet --disable-pip-version-check -e '.[test,dev]' ||
        ! "$environment/bin/pytest" "$@"; then
        failed="$failed $version"
    fi
done

[ -n "$found" ] || { echo "No Python from 3.11 on was found." >&2; exit 1; }
[ -z "$failed" ] || { echo "Failed on Python$failed" >&2; exit 1; }
echo "Passed on Python$found"
