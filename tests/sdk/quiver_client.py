"""Every call of Quiver's own Python client that a cluster can serve, with what came of it, as JSON on standard output.

Usage: quiver_client.py URL KEY (sync | async | langchain | documents | snapshot=FOLDER)

Run against a Quiver server and against Sheaf's router, the output is the same: that is what the test compares. Each step has
what the client returned, and what went over the wire for it. Randomness (nonces, ids) is drawn from a seed. What may differ,
and is left out: the words of problems, the last digits of scores, the order of hits with equal ones in a hybrid search, `index_ready`,
the order of a list of collections, and 422 where Sheaf says 400. What a snapshot answers is each server's own.
"""

import asyncio
import dataclasses
import inspect
import json
import os
import random
import sys

import quiver
from quiver import AsyncClient, Client, FilterableField, Point, QuiverError, SparseVector
from quiver.client import TEXT_KEY, Document
from quiver.dcpe import DcpeCipher
from quiver.vector import VectorCipher

SEED = random.Random(7)
os.urandom = lambda count: SEED.randbytes(count)

# Decimal places of a score that two servers have in common: each adds up floats in its own order.
SCORE_PLACES = 4
# Whether an index is ready depends on when it is asked, and Sheaf's always is.
LEFT_OUT = ["index_ready"]
# Quiver's status of JSON that isn't what was expected, and Sheaf's.
SAME_STATUS = {422: 400}


def plain(value):
    """A result as JSON has it."""
    if dataclasses.is_dataclass(value):
        return plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in LEFT_OUT}
        return {key: rounded(key, plain(item)) for key, item in kept.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def rounded(key, value):
    return round(value, SCORE_PLACES) if key == "score" and value is not None else value


class Recorder:
    """What happened so far."""

    def __init__(self):
        self.steps = []
        self.exchanges = []

    def watch(self, http):
        """Notes what this HTTP client sends and gets."""

        def note(request, response):
            body = None
            if response.status_code < 400:
                is_json = response.headers["content-type"].startswith("application/json")
                body = plain(response.json()) if is_json else response.text.strip()
            self.exchanges.append(
                {
                    "asked": f"{request.method} {request.url.raw_path.decode()}",
                    "status": SAME_STATUS.get(response.status_code, response.status_code),
                    # The words of a problem are each server's own; that there are some is checked where one is expected.
                    "body": body,
                }
            )

        async def note_async(response):
            await response.aread()
            note(response.request, response)

        def note_sync(response):
            response.read()
            note(response.request, response)

        is_async = isinstance(http, quiver.async_client.httpx.AsyncClient)
        http.event_hooks["response"].append(note_async if is_async else note_sync)

    async def step(self, name, call, *args, **options):
        """Makes the call, of either client, and keeps what came of it."""
        self.exchanges = []
        result = None
        try:
            result = call(*args, **options)
            if inspect.isasyncgen(result):
                result = [item async for item in result]
            elif inspect.isgenerator(result):
                result = list(result)
            elif inspect.isawaitable(result):
                result = await result
            said = plain(result)
        except QuiverError as error:
            status = SAME_STATUS.get(error.status, error.status)
            said = {"error": status, "has_words": bool(str(error).strip())}
        self.steps.append({"step": name, "said": said, "wire": self.exchanges})
        return result


def points(count, start=0):
    """Points whose distances from each other and from 0 all differ."""
    return [
        Point(
            id=f"p{n}",
            vector=[float(n), float(n % 7), 1.0, 0.5],
            payload={"n": n, "even": n % 2 == 0, "tag": f"t{n % 3}", "deep": {"x": n / 4}},
        )
        for n in range(start, start + count)
    ]


async def collections(r, q):
    """The catalogue, and what is refused."""
    fields = [FilterableField("tag"), FilterableField("n", "numeric")]
    await r.step("create", q.create_collection, "items", 4, filterable=fields)
    await r.step("create a cosine one", q.create_collection, "angles", 3, "cosine", index="hnsw")
    await r.step("create a dot one", q.create_collection, "dots", dim=2, metric="dot")
    await r.step("create an existing one", q.create_collection, "items", 4)
    await r.step("create without a dimension", q.create_collection, "none", 0)
    await r.step("create with all that a name may have", q.create_collection, "A.b_c-1", 1)
    await r.step("get", q.get_collection, "items")
    await r.step("get the one with that name", q.get_collection, "A.b_c-1")
    await r.step("get an unknown one", q.get_collection, "unknown")
    listed = await r.step("list", q.list_collections)
    assert {c.name for c in listed} == {"items", "angles", "dots", "A.b_c-1"}, listed
    # The order of a list is each server's own.
    last = r.steps[-1]
    last["said"].sort(key=lambda c: c["name"])
    last["wire"][0]["body"].sort(key=lambda c: c["name"])
    await r.step("delete", q.delete_collection, "A.b_c-1")
    await r.step("delete an unknown one", q.delete_collection, "unknown")
    await r.step("health", q.healthz)


async def writes(r, q):
    """Points by id."""
    assert await r.step("upsert", q.upsert, "items", points(30)) == 30
    totals = []
    many = points(170, start=30)
    more = await r.step(
        "upsert_iter", q.upsert_iter, "items", iter(many), batch=50, on_progress=totals.append
    )
    assert (more, totals) == (170, [50, 100, 150, 170]), (more, totals)
    await r.step("upsert a mapping", q.upsert, "items", [{"id": "m", "vector": [1, 2, 3, 4]}])
    await r.step("upsert nothing", q.upsert, "items", [])
    odd = ["", "a/b", "doc#3", "a?b", "%2F", "é", "😀", "a b", "x" * 1000]
    odd_points = [Point(id, [9.0, 9.0, 9.0, float(at)]) for at, id in enumerate(odd)]
    await r.step("upsert odd ids", q.upsert, "items", odd_points)
    for id in odd[1:]:
        found = await r.step(f"get {id[:9]}", q.get_point, "items", id)
        assert found.id == id, found
    await r.step("get", q.get_point, "items", "p3")
    await r.step("get one without a payload", q.get_point, "items", "m")
    await r.step("get an absent one", q.get_point, "items", "absent")
    await r.step("replace", q.upsert, "items", [Point("p3", [3.5, 3.0, 1.0, 0.5], {"n": 3})])
    await r.step("get what was replaced", q.get_point, "items", "p3")
    await r.step("delete", q.delete_points, "items", ["p5", "p6", "absent"])
    await r.step("get what was deleted", q.get_point, "items", "p5")
    await r.step("delete odd ids", q.delete_points, "items", odd)
    await r.step("upsert a wrong dimension", q.upsert, "items", [Point("w", [1.0])])
    await r.step("upsert to an unknown collection", q.upsert, "unknown", points(1))
    await r.step("delete from an unknown one", q.delete_points, "unknown", ["p1"])
    await r.step("upsert too many", q.upsert, "items", points(1001))
    large = Point("large", [0.0] * 4, {"text": "x" * 70_000})
    await r.step("upsert too large a payload", q.upsert, "items", [large])
    await r.step("count", q.get_collection, "items")


async def searches(r, q):
    """Searches and lists, with filters."""
    near = [10.2, 2.9, 1.0, 0.5]
    await r.step("search", q.search, "items", near)
    await r.step("search for few", q.search, "items", near, k=3, with_vector=True)
    await r.step("search for ids", q.search, "items", near, k=3, with_payload=False)
    await r.step("search for all", q.search, "items", near, k=1000, ef_search=1000)
    for name, filter in {
        "eq": {"eq": {"field": "tag", "value": "t1"}},
        "ne": {"ne": {"field": "even", "value": True}},
        "range": {"and": [{"gte": {"field": "n", "value": 20}}, {"lt": {"field": "n", "value": 25.5}}]},
        "in": {"in": {"field": "n", "values": [1, 2, 150, 9999]}},
        "deep": {"lte": {"field": "deep.x", "value": 2}},
        "not exists": {"not": {"exists": {"field": "n"}}},
        "or": {"or": [{"eq": {"field": "n", "value": 7}}, {"gt": {"field": "n", "value": 197}}]},
        "none": {"eq": {"field": "absent", "value": 1}},
    }.items():
        await r.step(f"search with {name}", q.search, "items", near, k=8, filter=filter)
        await r.step(f"fetch with {name}", q.fetch, "items", filter=filter, limit=20)
    await r.step("fetch", q.fetch, "items")
    await r.step("fetch vectors", q.fetch, "items", limit=5, with_payload=False, with_vector=True)
    await r.step("scroll", q.scroll, "items", batch=300)
    await r.step("search a wrong dimension", q.search, "items", [1.0])
    await r.step("search an unknown collection", q.search, "unknown", near)
    await r.step("search with too large a k", q.search, "items", near, k=10_001)
    await r.step("search with a filter that is none", q.search, "items", near, filter={"like": 1})
    await r.step("fetch from an unknown collection", q.fetch, "unknown")
    await r.step("fetch too many", q.fetch, "items", limit=10_001)
    angles = [Point(f"a{n}", [1.0, n / 10, 0.0], {"n": n}) for n in range(20)]
    await r.step("upsert angles", q.upsert, "angles", angles)
    await r.step("search by cosine", q.search, "angles", [1.0, 0.52, 0.0], k=5)
    await r.step("upsert dots", q.upsert, "dots", [Point(f"d{n}", [n, 1.0]) for n in range(20)])
    await r.step("search by dot", q.search, "dots", [2.0, 0.5], k=5, with_vector=True)
    odd = {"eq": {"field": "even", "value": False}}
    await r.step("delete by filter", q.delete_by_filter, "items", odd, batch=40)
    await r.step("fetch what is left", q.fetch, "items", limit=500, with_payload=False)


SENTENCES = [
    "the fox jumps over the lazy dog",
    "a quick brown fox",
    "dogs sleep all day, and a dog barks at night",
    "nothing of the kind happens here",
    "foxes and dogs, dogs and foxes, fox fox fox",
    "night falls over the sleeping town",
    "the town has a market, a church and a fox",
    "of all animals the fox is said to be the most cunning one of all",
    "a dog and a cat live in the same house at the end of the road",
    "church bells ring at night",
    "brown bears fish in the river, dogs don't",
    "the lazy fox does not jump over anything, neither do dogs",
]


async def hybrid(r, q):
    """Searches by vector, by weighted terms and by words at once."""
    await r.step("create a mixed one", q.create_collection, "mixed", 2)
    # A point's words don't count where it has terms.
    terms_of = lambda n: {"__quiver_sparse__": {"indices": [n, n + 1, 90], "values": [1.5, n / 3, n + 0.25]}}
    mixed = [
        Point(f"h{n}", [n * n / 8.0, 1.0], {"n": n, **({TEXT_KEY: text} if n % 3 else terms_of(n))})
        for n, text in enumerate(SENTENCES)
    ]
    await r.step("upsert mixed points", q.upsert, "mixed", mixed)
    near, some = [3.1, 1.0], {"gt": {"field": "n", "value": 2}}
    terms = SparseVector([3, 4, 90], [2.0, 1.0, 0.1])
    for name, question in {
        "a vector": {"vector": near},
        "words": {"query_text": "the fox"},
        "one word": {"query_text": "town", "with_vector": True},
        "unknown words": {"query_text": "xylophone"},
        "terms": {"sparse": terms},
        "a vector and words": {"vector": near, "query_text": "a dog at night"},
        "a vector and terms": {"vector": near, "sparse": terms, "rrf_k0": 10.0},
        "all": {"vector": near, "sparse": terms, "query_text": "cunning fox", "with_payload": False},
        "all, filtered": {"vector": near, "sparse": terms, "query_text": "fox", "filter": some},
    }.items():
        await r.step(f"hybrid by {name}", q.hybrid_search, "mixed", **question)
        by_score(r.steps[-1])
    await r.step("hybrid of a wrong dimension", q.hybrid_search, "mixed", vector=[1.0])
    await r.step("hybrid in an unknown one", q.hybrid_search, "unknown", query_text="fox")
    await r.step("delete mixed", q.delete_collection, "mixed")


def by_score(step):
    """Hits with equal scores in the order of their ids."""
    order = lambda hit: (-hit["score"], hit["id"])
    step["said"].sort(key=order)
    step["wire"][0]["body"]["matches"].sort(key=order)


async def documents(r, q):
    """Documents of several vectors."""
    await r.step("create one of documents", q.create_collection, "pages", 3, "cosine", multivector=True)
    pages = [
        Document(f"d{n}", [[1.0, n / 5, 0.1 * m] for m in range(1 + n % 4)], {"n": n}) for n in range(20)
    ]
    await r.step("upsert documents", q.upsert_documents, "pages", pages)
    question = [[1.0, 1.3, 0.0], [1.0, 0.2, 0.3]]
    await r.step("search documents", q.search_multi_vector, "pages", question, k=5)
    await r.step("search documents whole", q.search_multi_vector, "pages", question, k=3, with_vector=True)
    few = {"lt": {"field": "n", "value": 4}}
    await r.step("search some documents", q.search_multi_vector, "pages", question, filter=few, with_payload=False)
    await r.step("delete documents", q.delete_documents, "pages", ["d3", "d4", "none"])
    await r.step("search what is left", q.search_multi_vector, "pages", question, k=30, with_payload=False)
    await r.step("get the one of documents", q.get_collection, "pages")
    await r.step("search it as points", q.search, "pages", [1.0, 0.0, 0.0])
    await r.step("upsert documents of a wrong dimension", q.upsert_documents, "pages", [Document("w", [[1.0]])])
    await r.step("upsert documents to one of points", q.upsert_documents, "unknown", pages[:1])
    await r.step("delete the one of documents", q.delete_collection, "pages")


async def texts(r, q):
    """Texts that become vectors, and hits that a second model ranks."""
    await r.step("create one of texts", q.create_collection, "docs", 8, "cosine")
    written = [
        {"id": f"t{n}", "text": text, **({"payload": {"n": n}} if n % 2 else {})} for n, text in enumerate(SENTENCES)
    ]
    await r.step("upsert texts", q.upsert_text, "docs", written)
    for name, question in {
        "plainly": {},
        "ranked": {"rerank": True},
        "few": {"rerank": True, "k": 2, "with_vector": True},
        "without payloads": {"rerank": True, "with_payload": False},
        "filtered": {"rerank": True, "filter": {"exists": {"field": "n"}}},
    }.items():
        await r.step(f"search texts {name}", q.search_text, "docs", "the fox and a dog at night", **question)
    await r.step("search texts of a wrong k", q.search_text, "docs", "the fox", k=10_001, rerank=True)
    await r.step("delete the one of texts", q.delete_collection, "docs")


async def encrypted(r, q):
    """Vectors that the server can't read."""
    cipher = VectorCipher.from_hex("11" * 32)
    await r.step("create a sealed one", q.create_collection, "sealed", 2, "cosine", vector_encryption="client_side")
    sealed = [
        Point(f"s{n}", [0.0, 0.0], {"tier": n % 2, **cipher.seal([float(n), 1.0])}) for n in range(12)
    ]
    await r.step("upsert sealed", q.upsert, "sealed", sealed)
    for metric in ["l2", "cosine", "dot"]:
        ranked = await r.step(
            f"search sealed by {metric}", q.search_client_side, "sealed", [4.2, 1.0], cipher, k=3, metric=metric
        )
        assert len(ranked) == 3, ranked
    gold = {"eq": {"field": "tier", "value": 1}}
    await r.step("search sealed ones", q.search_client_side, "sealed", [4.2, 1.0], cipher, k=2, filter=gold)
    await r.step("have the server rank sealed ones", q.search, "sealed", [4.2, 1.0])
    await r.step("get the sealed one", q.get_collection, "sealed")
    dcpe = DcpeCipher.from_hex("22" * 32, approximation_factor=0.02)
    await r.step("create a dcpe one", q.create_collection, "vault", 2, "l2", vector_encryption="dcpe")
    kept = [Point(f"v{n}", dcpe.encrypt([float(n), 0.0]).ciphertext) for n in range(12)]
    await r.step("upsert to the dcpe one", q.upsert, "vault", kept)
    hits = await r.step("search the dcpe one", q.search, "vault", dcpe.encrypt_query([5.0, 0.0]), k=3)
    assert hits[0].id == "v5", hits
    await r.step("get the dcpe one", q.get_collection, "vault")
    await r.step("create a dcpe one by cosine", q.create_collection, "x", 2, "cosine", vector_encryption="dcpe")


async def refusals(r, stranger):
    """Without a key that is known."""
    await r.step("ask without a key", stranger.list_collections)
    await r.step("write without a key", stranger.upsert, "items", points(1))
    await r.step("health without a key", stranger.healthz)


async def end(r, q):
    for name in ["items", "angles", "dots", "sealed", "vault"]:
        existed = await r.step(f"delete {name}", q.delete_collection, name)
        assert existed is True, name


async def client_story(r, url, key, kind):
    q, stranger = kind(url, api_key=key), kind(url)
    for client in [q, stranger]:
        r.watch(client._http)
    for part in [collections, writes, searches, hybrid, encrypted]:
        await part(r, q)
    await refusals(r, stranger)
    await end(r, q)
    for client in [q, stranger]:
        closed = client.aclose() if kind is AsyncClient else client.close()
        if closed is not None:
            await closed


async def by_both(r, url, key, story):
    """The story, told by either client."""
    with Client(url, api_key=key) as q:
        r.watch(q._http)
        await story(r, q)
    async with AsyncClient(url, api_key=key) as q:
        r.watch(q._http)
        await story(r, q)


def langchain_story(url, key):
    """Quiver's adapter of LangChain; returns the steps."""
    from langchain_core.embeddings import Embeddings
    from quiver.langchain import QuiverVectorStore

    class Lengths(Embeddings):
        """A text by its length and its vowels: enough to tell texts apart."""

        def embed_query(self, text):
            return [float(len(text)), float(sum(text.count(v) for v in "aeiou")), 1.0]

        def embed_documents(self, texts):
            return [self.embed_query(text) for text in texts]

    def said(found):
        return [
            {"id": d.id, "text": d.page_content, "metadata": d.metadata, "score": round(score, SCORE_PLACES)}
            for d, score in found
        ]

    steps = []
    with Client(url, api_key=key) as q:
        texts = ["a", "an apple", "pears and more pears", "aeiouaeiou", "a much longer text than all of the others"]
        metadata = [{"n": n} for n in range(len(texts))]
        store = QuiverVectorStore.from_texts(texts, Lengths(), metadata, client=q, collection="chain", metric="l2")
        steps.append({"step": "from_texts", "said": plain(q.get_collection("chain"))})
        ids = store.add_texts(["more", "words"], [{"n": 10}, {"n": 11}], ids=["i1", "i2"])
        steps.append({"step": "add_texts", "said": ids})
        steps.append({"step": "similarity", "said": said(store.similarity_search_with_score("an orange", k=3))})
        some = {"gte": {"field": "n", "value": 10}}
        steps.append({"step": "filtered", "said": said(store.similarity_search_with_score("wordy", k=4, filter=some))})
        documents = store.similarity_search("a", k=1)
        steps.append({"step": "documents", "said": [d.page_content for d in documents]})
        retriever = store.as_retriever(search_kwargs={"k": 2})
        steps.append({"step": "retriever", "said": [d.page_content for d in retriever.invoke("aeiouaeio")]})
        steps.append({"step": "delete", "said": store.delete(["i1"])})
        steps.append({"step": "after", "said": said(store.similarity_search_with_score("more", k=10))})
        steps.append({"step": "delete none", "said": store.delete([])})
        q.delete_collection("chain")
        both = QuiverVectorStore.from_texts(
            SENTENCES, Lengths(), client=q, collection="both", metric="l2", hybrid=True, ids=[f"t{n}" for n in range(12)]
        )
        found = said(both.similarity_search_with_score("a fox in the town", k=12))
        steps.append({"step": "hybrid", "said": sorted(found, key=lambda d: (-d["score"], d["id"]))})
        assert len(found) == 12 and all(TEXT_KEY not in d["metadata"] for d in found), found
        q.delete_collection("both")
    return steps


def snapshot_story(url, key, folder):
    with Client(url, api_key=key) as q:
        return [{"step": "snapshot", "said": q.snapshot(folder)}]


def main():
    url, key, what = sys.argv[1:]
    if what == "langchain":
        steps = langchain_story(url, key)
    elif what.startswith("snapshot="):
        steps = snapshot_story(url, key, what.removeprefix("snapshot="))
    elif what in ("documents", "texts"):
        recorder = Recorder()
        asyncio.run(by_both(recorder, url, key, {"documents": documents, "texts": texts}[what]))
        steps = recorder.steps
    else:
        recorder = Recorder()
        kind = {"sync": Client, "async": AsyncClient}[what]
        asyncio.run(client_story(recorder, url, key, kind))
        steps = recorder.steps
    json.dump(steps, sys.stdout, indent=1, ensure_ascii=False)


main()
