#!/usr/bin/env bash
# The page that draws dashboards with Grafana's components, from npm, and the browser
# that takes pictures of it. Makes the part `preview`: index.html, page.js, page.css, icons.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

make_page() {
  local folder=$1 work=$1/work
  mkdir -p "$work"
  cp "$e2e_dir"/preview/{package.json,package-lock.json,page.jsx,bar.jsx,state.js,scrollbars.jsx,index.html} "$work/"
  cd "$work"
  # Peers ask for each other in ranges that npm cannot agree on: the lock file has the last word.
  npm ci --legacy-peer-deps --no-audit --no-fund --loglevel=error
  npx esbuild page.jsx --bundle --minify --outfile="$folder/page.js" --jsx=automatic --legal-comments=none \
    --define:process.env.NODE_ENV='"production"' --log-level=error --alias:react-custom-scrollbars-2=./scrollbars.jsx \
    --loader:.svg=dataurl --loader:.woff2=dataurl --loader:.woff=dataurl --loader:.png=dataurl --loader:.ttf=empty
  cp index.html "$folder/"
  cp -r node_modules/@grafana/ui/dist/public/img/icons "$folder/"
  cd /
  rm -rf "$work"
}

require_programs node:nodejs npm:npm chromium:chromium
hash=$(part_hash preview "$e2e_dir"/preview/{package.json,package-lock.json,page.jsx,bar.jsx,state.js,scrollbars.jsx,index.html} "${BASH_SOURCE[0]}")
if ! part_ready preview "$hash"; then
  folder=$(part_begin preview)
  step_advice="The npm registry must be reachable through npm's usual settings (~/.npmrc)." \
    step "the preview of the dashboards, from npm" make_page "$folder"
  part_publish preview "$hash" "$folder"
fi
