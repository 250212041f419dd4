#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# One slice of the sum 1/1² + 1/2² + 1/3² + …, which tends to π²/6. The same
# script runs under Slurm and under volley:
#
#   sbatch task.sh
#   volley run array.yaml
#
#SBATCH --job-name=basel
#SBATCH --array=0-19%4
#SBATCH --time=00:01:00
#SBATCH --mem=64M
set -euo pipefail

# The one line that a script needs to run under both.
index=${SLURM_ARRAY_TASK_ID:-${VOLLEY_INDEX:?run me as a task of an array}}

terms=50000
first=$((index * terms + 1))
last=$((first + terms - 1))

# 75 says: try again later (EX_TEMPFAIL). array.yaml retries on it.
mkdir -p out || exit 75

part=$(printf 'out/part-%02d.txt' "$index")
# Backwards: small terms first keep their digits.
awk -v first="$first" -v last="$last" \
  'BEGIN { for (k = last; k >= first; k--) sum += 1 / k / k; printf "%.17g\n", sum }' >"$part.tmp"
# A task that is stopped here leaves no half part behind.
mv "$part.tmp" "$part"
echo "terms $first to $last: $(cat "$part")"
