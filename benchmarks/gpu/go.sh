#!/usr/bin/env bash
# Run the benchmark on a machine without a network, in the checkout that pack.sh packed build/gpu beside.
#
#   benchmarks/gpu/go.sh                                # six minutes, everything, into gpu.json
#   benchmarks/gpu/go.sh --minutes 2 --only student     # single sections again
#   benchmarks/gpu/go.sh --device cpu --quick           # does all of it run, where there is no GPU
#
# Nothing on the machine is changed: wheels are installed below build/gpu. Relative paths are read from the checkout.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=build/gpu
python=${PYTHON:-python3}

packages=$PWD/$folder/packages
rm -rf "$packages"
"$python" -m pip install --quiet --no-index --no-deps --no-compile --disable-pip-version-check --target "$packages" \
  "$folder"/wheels/*.whl
export PYTHONPATH="$PWD:$packages${PYTHONPATH:+:$PYTHONPATH}"

options=(--packed "$folder")
for one in "--scalr ScaLR" "--waffleiron WaffleIron"; do
  read -r option name <<<"$one"
  if [ -d "$folder/authors/$name" ] && [[ " $* " != *" $option "* ]]; then
    options+=("$option" "$folder/authors/$name")
  fi
done
exec "$python" -m benchmarks.gpu "${options[@]}" "$@"  # who ends this script ends the run, politely
