"""A browser on the status page: a number changes without the page being loaded again. Argument: the server's
address, where a hundred orders are (api.py fill)."""

import json
import os
import shutil
import sys
import urllib.request

from playwright.sync_api import sync_playwright

address = sys.argv[1]
MORE = 123456
# The amounts of one of five shops, and what comes to it.
WANTED = str(sum(range(1, 100, 5)) + MORE)


def seen(page):
    return "".join(c for c in page.inner_text("body") if c not in ", \u202f\u2009\xa0")


def order(number, amount):
    body = json.dumps({"id": number, "shop": "s1", "amount": amount}).encode()
    urllib.request.urlopen(urllib.request.Request(f"{address}/hooks/orders", body, {"Content-Type": "application/json"})).read()


with sync_playwright() as playwright:
    path = shutil.which("chromium")
    browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
    page = browser.new_page(http_credentials={"username": "ada", "password": os.environ["ADMIN_TOKEN"]})
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"{address}/", wait_until="domcontentloaded")
    assert "hub" in seen(page) and "by_shop" in seen(page) and WANTED not in seen(page)
    page.evaluate("window.same = true")
    order(5000, MORE)
    for _ in range(600):
        if WANTED in seen(page):
            break
        page.wait_for_timeout(100)
    else:
        sys.exit(f"the number did not change: {page.inner_text('body')}")
    assert page.evaluate("window.same"), "the page was loaded again"
    assert not wrong, wrong
    browser.close()
