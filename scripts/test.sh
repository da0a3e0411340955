#!/bin/sh
# `pnpm test` runs everything and installs what that needs. `pnpm test PACKAGE [FILE…]`, or `pnpm t PACKAGE [FILE…]`,
# runs the tests of one package from its sources. Options go to vitest.
set -eu
case "${1:-}" in
"" | -*)
  sh scripts/system-packages.sh --test
  DO_NOT_TRACK=1 turbo run build //#typecheck //#lint:all --output-logs=new-only
  exec vitest run --maxWorkers 3 "$@"
  ;;
*)
  project=$1
  shift
  exec vitest run --project "$project" "$@"
  ;;
esac
