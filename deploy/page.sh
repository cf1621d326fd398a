#!/usr/bin/env bash
# Opens pages of reports in a real browser at 1280x800, and asserts what a reader would see: no error on the console, no
# text over another, no text that leaves its bar, nothing wider than the window.
#
#   deploy/page.sh PAGE.html...
#
# Needs chromium in PATH; without one it says so and succeeds.
set -euo pipefail

browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [ -z "$browser" ]; then
    echo "deploy/page.sh: skipped: there is no chromium in PATH"
    exit 0
fi
if [ $# -eq 0 ]; then
    echo "deploy/page.sh: no page given; expected one or more HTML files" >&2
    exit 2
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

open_page() { # PAGE OUTPUT LOG
    timeout 120 "$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1280,800 \
        --user-data-dir="$work/profile" --virtual-time-budget=5000 --enable-logging=stderr --log-level=0 \
        --dump-dom "file://$(realpath "$1")" > "$2" 2> "$3"
}

for page in "$@"; do
    # As it is: its own policy forbids everything it does not need, so a page that needs more says so on the console.
    open_page "$page" "$work/dom.html" "$work/log"
    if grep -E "CONSOLE" "$work/log"; then
        echo "deploy/page.sh: $page: the browser complains" >&2
        exit 1
    fi
    # And with a script that measures it, for which the policy has to go.
    python3 - "$page" "$work/measured.html" <<'PY'
import re, sys
page = open(sys.argv[1], encoding="utf-8").read()
page, found = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
assert found == 1, "the page has no policy"
script = r"""<script>
window.addEventListener("load", () => {
  document.querySelectorAll("details").forEach((part) => { part.open = true; });
  const wrong = [];
  const name = (text) => JSON.stringify(text.textContent.slice(0, 40));
  let texts = 0;
  for (const drawing of document.querySelectorAll(".chart svg")) {
    const boxes = [...drawing.querySelectorAll("text")].map((text) => ({ text, box: text.getBoundingClientRect() }));
    texts += boxes.length;
    const edge = drawing.getBoundingClientRect();
    boxes.forEach(({ text, box }, index) => {
      if (box.width === 0 || box.left < edge.left - 1 || box.right > edge.right + 1) wrong.push(`outside: ${name(text)}`);
      const bar = text.classList.contains("in") && text.parentNode.querySelector("rect").getBoundingClientRect();
      if (bar && box.right > bar.right + 1) wrong.push(`wider than its bar: ${name(text)}`);
      for (const other of boxes.slice(index + 1)) {
        const width = Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left);
        const height = Math.min(box.bottom, other.box.bottom) - Math.max(box.top, other.box.top);
        if (width > 1 && height > 2) wrong.push(`${name(text)} over ${name(other.text)}`);
      }
    });
  }
  if (document.documentElement.scrollWidth > window.innerWidth) wrong.push("the page is wider than the window");
  const run = JSON.parse(document.getElementById("run").textContent);
  if (!document.querySelector("h1").textContent.includes(run.scenario)) wrong.push("the JSON is of another run");
  if (texts < 20) wrong.push(`only ${texts} texts were measured`);
  document.body.dataset.measured = wrong.length ? wrong.slice(0, 20).join("; ") : `well: ${texts} texts`;
});
</script>"""
open(sys.argv[2], "w", encoding="utf-8").write(page.replace("</body>", script + "</body>"))
PY
    open_page "$work/measured.html" "$work/dom.html" "$work/log"
    python3 - "$work/dom.html" "$page" <<'PY'
import html, re, sys
found = re.search(r'data-measured="([^"]*)"', open(sys.argv[1], encoding="utf-8").read())
told = html.unescape(found.group(1)) if found else "the script did not run"
print(f"{sys.argv[2]}: {told}")
sys.exit(0 if told.startswith("well") else 1)
PY
done
