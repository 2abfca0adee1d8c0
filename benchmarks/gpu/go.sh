#!/usr/bin/env bash
# Run the benchmark on a machine without a network, from the checkout that pack.sh packed build/gpu beside.
#
#   benchmarks/gpu/go.sh                                # six minutes, everything, into gpu.json
#   benchmarks/gpu/go.sh --minutes 2 --only student     # single sections again
#   benchmarks/gpu/go.sh --device cpu --quick           # does all of it run, where there is no GPU
#
# Nothing on the machine is changed: wheels are installed below build/gpu, and gpu.json goes where you stand.
# PYTHON=PROGRAM names a Python 3.12 with torch; without it, python3 is taken.
set -euo pipefail
checkout=$(cd "$(dirname "$0")/../.." && pwd)
folder=$checkout/build/gpu
python=${PYTHON:-python3}

fail() { echo "go.sh: $*" >&2; exit 1; }
[ -f "$folder/SHA256SUMS" ] || fail "$folder holds nothing that pack.sh made. Run benchmarks/gpu/pack.sh where there is a network, and copy it"
(cd "$folder" && sha256sum --check --quiet --strict SHA256SUMS) ||
  fail "$folder is not as it was packed. Copy it again, or run benchmarks/gpu/pack.sh again where there is a network"
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' ||
  fail "the packed wheels are for Python 3.12, and $python is $("$python" --version 2>&1). PYTHON=PROGRAM names another one"

packages=$folder/packages
rm -rf "$packages"
"$python" -m pip install --quiet --no-index --no-deps --no-compile --disable-pip-version-check --target "$packages" \
  "$folder"/wheels/*.whl
export PYTHONPATH="$checkout:$packages${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONSAFEPATH=1  # modules in the folder where you stand are not ours

options=(--packed "$folder")
for one in "--scalr ScaLR" "--waffleiron WaffleIron"; do
  read -r option name <<<"$one"
  if [ -d "$folder/authors/$name" ] && [[ " $* " != *" $option "* ]]; then
    options+=("$option" "$folder/authors/$name")
  fi
done
exec "$python" -m benchmarks.gpu "${options[@]}" "$@"  # who ends this script ends the run, politely
