"""Reads the top posts of a forum whose API is like Reddit's, and returns each as an idea."""

import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from datetime import datetime, timezone


def leave(code, words):
    print(words, file=sys.stderr)
    sys.exit(code)


def ask(forum, limit):
    """The posts as the forum describes them."""
    query = urllib.parse.urlencode({"limit": limit})
    url = f"{os.environ['FORUM_URL']}/r/{urllib.parse.quote(forum, safe='')}/top.json?{query}"
    headers = {"User-Agent": "prismq-example/1"}
    if token := os.environ.get("FORUM_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return [child["data"] for child in json.load(answer)["data"]["children"]]
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            leave(78, f"the forum refuses us ({error.code}): look at FORUM_TOKEN")  # misconfigured
        if error.code == 404:
            leave(65, f"no such forum: {forum!r}")  # bad params
        leave(75, f"the forum answered with status {error.code}")  # retried
    except OSError as error:
        leave(69, f"the forum could not be reached: {error}")  # retried


def idea(post):
    """One record: `metadata` has only texts; what is unknown is empty."""
    posted = post.get("created_utc")
    return {
        "title": post.get("title") or "Untitled Post",
        "description": post.get("selftext", "")[:500],
        "content": post.get("selftext", ""),
        "keywords": ["forum_post", post["subreddit"]],
        "source_type": "text",
        "source_platform": "forum",
        "source_id": post["id"],
        "source_url": os.environ["FORUM_URL"] + post["permalink"],
        "source_created_by": post.get("author"),
        "source_created_at": posted and datetime.fromtimestamp(posted, timezone.utc).isoformat(),
        "metadata": {name: str(post.get(name, "")) for name in ("ups", "num_comments")},
    }


params = json.load(sys.stdin)["params"]
forum = params.get("forum")
if not isinstance(forum, str) or not forum:
    leave(65, "params.forum is missing or not text")
posts = ask(forum, params.get("max_posts", 10))
# prismq sets each `idea_id` when it stores the ideas.
titles = [{"post_id": post["id"], "title": post.get("title"), "idea_id": None} for post in posts]
print(json.dumps({"forum": forum, "posts": titles, "ideas": [idea(post) for post in posts]}))
