#!/usr/bin/env bash
# Run the benchmark on a machine without a network, from the checkout that pack.sh packed build/gpu beside.
#
#   benchmarks/gpu/go.sh                                # six minutes, everything, into gpu.json
#   benchmarks/gpu/go.sh --minutes 2 --only student     # single sections again
#   benchmarks/gpu/go.sh --device cpu --quick           # does all of it run, where there is no GPU
#   benchmarks/gpu/go.sh tables gpu.json                # the tables of what was measured
#
# Other options are those of `python -m benchmarks.gpu`: --out, --packed, --scalr, --waffleiron.
# It needs Linux on x86-64, and Python 3.12 with pip, torch, torchvision, timm, scipy and tensorboard: python3, or
# PYTHON=PROGRAM. Nothing on the machine is changed: wheels are installed below build/gpu, and gpu.json goes where you stand.
set -euo pipefail
checkout=$(cd "$(dirname "$0")/../.." && pwd)
folder=$checkout/build/gpu
python=${PYTHON:-python3}

case "${1:-}" in -h | --help)
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
  exit
esac
fail() { echo "go.sh: $*" >&2; exit 1; }
[ -f "$folder/SHA256SUMS" ] || fail "$folder holds nothing that pack.sh made. Run benchmarks/gpu/pack.sh where there is a network, and copy it"
(cd "$folder" && sha256sum --check --quiet --strict SHA256SUMS) ||
  fail "$folder is not as it was packed. Copy it again, or run benchmarks/gpu/pack.sh again where there is a network"
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' ||
  fail "the packed wheels are for Python 3.12, and $python is $("$python" --version 2>&1). PYTHON=PROGRAM names another one"
"$python" -c 'import torch, torchvision, timm, scipy, tensorboard' 2>/dev/null ||
  fail "$python lacks one of torch, torchvision, timm, scipy and tensorboard. PYTHON=PROGRAM names another one"

packages=$folder/packages-$(sha256sum "$folder/SHA256SUMS" | cut -c1-12)
if [ ! -d "$packages" ]; then  # what is there is whole: it got its name last
  fresh=$(mktemp -d "$folder/installing-XXXXXX")
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --disable-pip-version-check --target "$fresh" \
    "$folder"/wheels/*.whl
  mv -T "$fresh" "$packages" 2>/dev/null || rm -rf "$fresh"  # another run was faster
fi
export PYTHONPATH="$checkout:$packages${PYTHONPATH:+:$PYTHONPATH}"
export GRIDDLE_GPU_SCRIPT=$checkout/benchmarks/gpu/go.sh
export PYTHONSAFEPATH=1  # modules in the folder where you stand are not ours

if [ "${1:-}" = tables ]; then
  shift
  exec "$python" -m benchmarks.gpu.tables "$@"
fi
options=(--packed "$folder")
for one in "--scalr ScaLR" "--waffleiron WaffleIron"; do
  read -r option name <<<"$one"
  if [ -d "$folder/authors/$name" ] && [[ " $* " != *" $option "* ]]; then
    options+=("$option" "$folder/authors/$name")
  fi
done
exec "$python" -m benchmarks.gpu "${options[@]}" "$@"  # who ends this script ends the run, politely
