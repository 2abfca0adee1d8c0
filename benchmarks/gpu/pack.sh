#!/usr/bin/env bash
# Pack all that a bare GPU machine lacks into build/gpu, which git ignores. Needs a network and $GRIDDLE_SAMPLES.
#
#   benchmarks/gpu/pack.sh                                          # wheels, recordings, a toy town and its cache
#   SCALR=… WAFFLEIRON=… benchmarks/gpu/pack.sh                     # also the published code, of these two checkouts
#   GRIDDLE_REAL_TEACHER=… benchmarks/gpu/pack.sh                   # also build/gpu_weights: a trained teacher, 44 MB
#
# Copy the checkout with build/gpu over, and run benchmarks/gpu/go.sh there.
set -euo pipefail
case "${1:-}" in -h | --help)
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
  exit
esac
fail() { echo "pack.sh: $*" >&2; exit 1; }
[ -n "${GRIDDLE_SAMPLES:-}" ] || fail "set GRIDDLE_SAMPLES to the folder that holds nuscenes/"
for name in GRIDDLE_SAMPLES SCALR WAFFLEIRON GRIDDLE_REAL_TEACHER; do  # relative ones are read from where you stand
  [ -n "${!name:-}" ] || continue
  [ -e "${!name}" ] || fail "$name: ${!name} is not there"
  export "$name=$(realpath "${!name}")"
done
[ -d "$GRIDDLE_SAMPLES/nuscenes" ] || fail "GRIDDLE_SAMPLES: $GRIDDLE_SAMPLES holds no folder nuscenes/"
cd "$(dirname "$0")/../.."
folder=build/gpu
limit=48   # MB, of the checkout and build/gpu together

mkdir -p "$folder"
rm -rf "$folder/wheels.new" "$folder"/packages* "$folder"/installing-*
platforms=(manylinux_2_28_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64)
python -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
  "${platforms[@]/#/--platform=}" --dest "$folder/wheels.new" --requirement benchmarks/gpu/wheels.txt
python -m benchmarks.gpu.wheels "$folder/wheels.new"
rm -rf "$folder/wheels" "$folder/SHA256SUMS"  # a folder that was packed before stays whole until here
mv "$folder/wheels.new" "$folder/wheels"

python -m benchmarks.gpu.make_packed "$folder" ${GRIDDLE_REAL_TEACHER:+--weights "$GRIDDLE_REAL_TEACHER"}

rm -rf "$folder/authors"
for one in "ScaLR ${SCALR:-}" "WaffleIron ${WAFFLEIRON:-}"; do
  read -r name checkout <<<"$one"
  [ -n "$checkout" ] || continue
  mkdir -p "$folder/authors/$name"
  (cd "$checkout" && find . -name '*.py' -o -name LICENSE -o -name '*.yaml' | tar -cf - -T -) | tar -xf - -C "$folder/authors/$name"
  git -C "$checkout" rev-parse HEAD >"$folder/authors/$name/COMMIT"
done

(cd "$folder" && find . -type f -not -name '*SUMS' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) >"$folder/SUMS"
mv "$folder/SUMS" "$folder/SHA256SUMS"  # last: a folder without it is not whole

megabytes() { awk -v bytes="$1" 'BEGIN { printf "%.1f", bytes / 1e6 }'; }
weight() { find "$@" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum + 0 }'; }
checkout=$(git ls-files -z | xargs -0 stat --format=%s | awk '{ sum += $1 } END { print sum }')
printf '%-28s%8s MB\n' checkout "$(megabytes "$checkout")"
for part in "$folder"/*/; do printf '%-28s%8s MB\n' "${part%/}" "$(megabytes "$(weight "$part")")"; done
whole=$((checkout + $(weight "$folder")))
printf '%-28s%8s MB of %s\n' together "$(megabytes "$whole")" "$limit"
if [ -d build/gpu_weights ]; then
  printf '%-28s%8s MB\n' 'build/gpu_weights, apart' "$(megabytes "$(weight build/gpu_weights)")"
fi
[ "$whole" -le $((limit * 1000000)) ] || fail "this is more than $limit MB"
echo "Now copy the checkout, build/ included, to the machine with the GPU, and run there: benchmarks/gpu/go.sh"
