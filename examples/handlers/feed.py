"""Leaves the posts of an RSS feed as ideas."""

import json
import sys
import urllib.error
import urllib.request
import xml.etree.ElementTree as ElementTree

task = json.load(sys.stdin)
url = task["params"].get("url")
if not isinstance(url, str):
    print("params.url is missing, or is no text", file=sys.stderr)
    sys.exit(65)  # bad params: not to be tried again

try:
    with urllib.request.urlopen(url, timeout=30) as answer:
        feed = ElementTree.parse(answer)
except urllib.error.URLError as error:
    print(f"{url}: {error}", file=sys.stderr)
    sys.exit(69)  # unavailable: to be tried again

ideas, posts = [], []
for item in feed.iter("item"):
    post_id = item.findtext("guid") or item.findtext("link")
    title = item.findtext("title") or "Untitled"
    ideas.append({
        "title": title,
        "description": item.findtext("description"),
        "keywords": [category.text for category in item.iter("category") if category.text],
        "source_type": "post",
        "source_platform": "rss",
        "source_id": post_id,
        "source_url": item.findtext("link"),
        "source_created_at": item.findtext("pubDate"),
        "metadata": {"feed": url},
    })
    posts.append({"post_id": post_id, "title": title, "idea_id": None})  # prismq fills in the row
print(json.dumps({"posts": posts, "ideas": ideas}))
