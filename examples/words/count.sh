#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Counts the words of the records of one task: count.sh RECORDS
#
# RECORDS is a file with one JSON object in a line, with its text in "text".
# Writes the frequency of every word to counts.tsv and the totals to
# results.json, both in the working directory. Nothing but sh and awk.
set -eu

records=${1:-${VOLLEY_RECORDS:?give a file of records}}
if [ ! -r "$records" ]; then
  echo "count.sh: cannot read $records" >&2
  exit 66
fi

# Bytes and not letters of a locale, so that every machine counts alike.
LC_ALL=C
export LC_ALL

awk '
  # Take the string after "text":, and drop the escapes of JSON: what is left
  # of them is not a word.
  match($0, /"text"[ \t]*:[ \t]*"([^"\\]|\\.)*"/) {
    rows++
    text = substr($0, RSTART, RLENGTH)
    sub(/^"text"[ \t]*:[ \t]*"/, "", text)
    gsub(/\\u[0-9a-fA-F][0-9a-fA-F][0-9a-fA-F][0-9a-fA-F]|\\./, " ", text)
    n = split(tolower(text), word, /[^a-z]+/)
    for (i = 1; i <= n; i++)
      if (word[i] != "") {
        words++
        if (!count[word[i]]++) distinct++
      }
  }
  END {
    printf "" > "counts.tsv.tmp"
    for (w in count) {
      print count[w] "\t" w > "counts.tsv.tmp"
      # Equal counts: the first of the alphabet, since awk has no order.
      if (count[w] > most || (count[w] == most && w < top)) {
        most = count[w]
        top = w
      }
    }
    printf "{\"rows\":%d,\"words\":%d,\"distinct\":%d,\"top\":\"%s\"}\n", rows, words, distinct, top > "results.json.tmp"
  }' "$records"
sort -k1,1nr -k2,2 counts.tsv.tmp >counts.tsv
rm counts.tsv.tmp
# Last, so that results.json stands for a complete task.
mv results.json.tmp results.json
cat results.json
