"""Names for ``distil_mini.py``: its texts with tags of persons, places and organisations.

A sentence counts as one without names if its English side has no capital letter within it (but for *I*, days, months and
words such as *French*). Names are put anywhere into it, or in the place of *Tom*, *Mary* or *Boston*, of which Tatoeba is
full. Other sentences are taken as they are: those of which every word with a capital is a known name. Names are those of
Faker (MIT) in the language of the sentence, and of WordNet, CLDR and the Open Multilingual Wordnet. Nothing was labelled by
hand, and no set with labelled names was read.
"""

import json
import re
from collections import defaultdict
from itertools import chain

import numpy as np
from distil_mini_texts import dictionary, held_out, read_wordnet

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]
# Language -> locales of Faker whose names of persons, cities or companies are of the language
LOCALES = dict(
    pair.split(":")
    for pair in (
        "ar:ar_EG bg:bg_BG bn:bn_BD cs:cs_CZ da:da_DK de:de_DE el:el_GR en:en_US,en_GB,en_IN es:es_ES,es_MX et:et_EE"
        " fa:fa_IR fi:fi_FI fr:fr_FR he:he_IL hi:hi_IN hr:hr_HR hu:hu_HU hy:hy_AM id:id_ID it:it_IT ja:ja_JP ka:ka_GE"
        " ko:ko_KR lt:lt_LT lv:lv_LV mk:mk_MK mr:mr_IN nl:nl_NL no:no_NO nn:no_NO nb:no_NO pl:pl_PL pt:pt_PT,pt_BR"
        " ro:ro_RO ru:ru_RU sk:sk_SK sl:sl_SI sr:sr_BA sv:sv_SE sw:sw th:th_TH tl:tl_PH tr:tr_TR uk:uk_UA vi:vi_VN"
        " zh:zh_CN,zh_TW"
    ).split()
)
MADE_UP_CITIES = "ar_EG el_GR en_US en_GB tr_TR sk_SK hi_IN lt_LT sw id_ID tl_PH no_NO fr_FR ro_RO".split()
SPACELESS = {"zh": 0, "ja": 0, "th": 3}  # written without spaces: least length of a piece, less one
CLDR = dict(
    pair.split(":")
    for pair in (
        "ar:arb bg:bul bn:ben cs:ces da:dan de:deu el:ell en:eng es:spa et:est fa:fas fi:fin fr:fra he:heb hi:hin hr:hrv"
        " hu:hun hy:hye id:ind it:ita ja:jpn ka:kat ko:kor lt:lit lv:lav mk:mkd mr:mar nl:nld no:nob nn:nno nb:nob pl:pol"
        " pt:por ro:ron ru:rus sk:slk sl:slv sr:srp sv:swe sw:swa th:tha tr:tur uk:ukr vi:vie zh:cmn"
    ).split()
)
ORGANISATIONS = {
    "da": ["{LOC} Universitet", "Universitetet i {LOC}", "Banken i {LOC}", "{LOC} IF", "{LOC} Kommune", "{NEW}partiet"],
    "de": ["Universität {LOC}", "FC {LOC}", "{LOC}er Bank", "Verband der {NEW}", "SV {LOC}"],
    "en": [
        "University of {LOC}",
        "{LOC} University",
        "Bank of {LOC}",
        "{LOC} United",
        "{NEW} Party",
        "{NEW} Corporation",
    ],
    "es": ["Universidad de {LOC}", "Banco de {LOC}", "Real {LOC}", "Partido {NEW}", "Grupo {NEW}"],
    "fr": ["Université de {LOC}", "Banque de {LOC}", "Olympique de {LOC}", "Parti {NEW}", "Groupe {NEW}"],
    "it": ["Università di {LOC}", "Banca di {LOC}", "Partito {NEW}", "Gruppo {NEW}"],
    "ja": ["{LOC}大学", "{LOC}銀行", "{NEW}新聞"],
    "nl": ["Universiteit van {LOC}", "Bank van {LOC}", "FC {LOC}", "Partij {NEW}"],
    "pt": ["Universidade de {LOC}", "Banco de {LOC}", "Partido {NEW}", "Grupo {NEW}", "Câmara Municipal de {LOC}"],
    "ru": ["Университет {LOC}", "Банк {LOC}", "Партия {NEW}"],
    "sv": ["{LOC}s universitet", "Universitetet i {LOC}", "{LOC}s bank", "{LOC}s IF", "{LOC}s kommun", "{NEW}partiet"],
    "zh": ["{LOC}大学", "{LOC}银行", "{LOC}队", "{NEW}公司", "{NEW}党"],
}
NO_NAMES = set(
    "I Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March April May June July August September"
    " October November December Christmas Easter English French German Japanese Chinese Spanish Italian Russian American"
    " Americans Australian Canadian British Greek Roman European Indian Latin Mexican African Korean OK TV Mr Mrs God".split()
)
STAND_INS = {
    "PER": "Tom|Том|Τομ|汤姆|湯姆|トム|톰|توم|تام|תום|ทอม|टॉम|Mary|Maria|Мэри|Марія|Мария|Μαίρη|玛丽|瑪麗|メアリー|메리|ماري",
    "LOC": "Boston|Бостон|Βοστώνη|波士顿|ボストン|보스턴|بوسطن|Australia|Australien|Австралия|澳大利亚|オーストラリア|호주",
}
STAND_IN_WORDS = {word for words in STAND_INS.values() for word in words.split("|")}
PUNCTUATION = re.escape("""!"#$%&()*+,./:;<=>?@[]^_`{|}~。、，！？；：「」『』（）《》…“”«»„।؟،؛¿¡—–·•፡።""")
WORD = re.compile(rf"[^\s{PUNCTUATION}]+|[{PUNCTUATION}]")
WITHOUT_CAPITALS = "ar bn de fa he hi ja ka ko mr th zh".split()  # or, in German, with too many
SYLLABLES = list(  # of foreign names in Chinese
    "阿艾安奥巴贝比博布查达德迪多尔法菲弗戈格哈汉赫霍基吉加卡凯科克拉莱兰劳雷里利林隆卢鲁罗洛马麦曼梅米莫姆纳尼诺帕佩皮普奇乔萨塞森沙斯索塔泰特托瓦维温沃乌西希亚伊尤约兹"
)
# WordNet's files of persons, of places and of natural objects, and what tells organisations from other groups
KIND_OF_FILE = {"18": "PER", "15": "LOC", "17": "LOC"}
OF_ORGANISATIONS = re.compile("organi[sz]ation|party|agency|company|department|alliance")


def instances(synsets, folder):
    """Synset of a person, a place or an organisation -> its kind."""
    kinds = {}
    for line in (folder / "data.noun").read_text(encoding="utf-8").splitlines():
        if not line.startswith(" "):
            offset, file, *rest = line.partition(" | ")[0].split(" ")
            lemma, gloss = synsets[f"{offset}-n"][0][0], synsets[f"{offset}-n"][1]
            if not lemma[0].isupper():
                continue
            if "@i" in rest and file in KIND_OF_FILE:
                kinds[f"{offset}-n"] = KIND_OF_FILE[file]
            elif file == "14" and OF_ORGANISATIONS.search(gloss):
                kinds[f"{offset}-n"] = "ORG"
    return kinds


def read_names(data, rng, n_drawn=1500):
    """Language -> kind -> names."""
    from faker import Faker

    synsets = read_wordnet(data / "wordnet")
    kinds = instances(synsets, data / "wordnet")
    names = defaultdict(lambda: defaultdict(list))
    for synset, kind in kinds.items():
        names["en"][kind].extend(name for name in synsets[synset][0] if name[0].isupper())
    languages = {code: language for language, code in CLDR.items()}
    for synset, language, text in dictionary(data / "omw" / "wns", synsets):
        if synset in kinds and len(text) < 60:
            name = text.split(", ")[0]
            names[languages.get(language, language)][kinds[synset]].append(name[:1].upper() + name[1:])
    for language, locales in LOCALES.items():
        for locale in locales.split(","):
            faker = Faker(locale)
            faker.seed_instance(int(rng.integers(2**31)))
            own, space = names[language], "" if language in ("zh", "ja", "ko") else " "
            for _ in range(n_drawn):
                first, last = faker.first_name(), faker.last_name()
                family_first = language in ("zh", "ja", "ko", "hu")
                own["PER"].append(f"{last}{space}{first}" if family_first else f"{first}{space}{last}")
                own["PER"].extend([first] if rng.random() < 0.3 else [])
                own["PER"].extend([last] if rng.random() < 0.3 and language not in ("zh", "ko") else [])
                if locale not in MADE_UP_CITIES:
                    own["LOC"].append(re.sub(r"^\w{1,3}\. ?", "", faker.city()))
                company = faker.company()
                if locale not in ("ar_EG", "sw") and (" " in company or not space):  # else it may be a family name
                    own["ORG"].append(company)
    return names


def words_of(text, language, rng):
    """Words and marks; text without spaces is cut into short pieces."""
    if language not in SPACELESS:
        return WORD.findall(text)
    words, least = [], SPACELESS[language]
    for run in WORD.findall(text):
        if run.isascii():
            words.append(run)
            continue
        while run:
            length = least + int(rng.choice([1, 2, 3], p=[0.35, 0.5, 0.15]))
            words.append(run[:length])
            run = run[length:]
    return words


class Names:
    """Draws names of a language; where it is written in Latin letters, or has none of the kind, also of others that are."""

    def __init__(self, names, rng):
        self.names, self.rng = names, rng
        self.latin = {
            language
            for language, own in names.items()
            if np.mean([name.isascii() for name in own["LOC"][:200] or [""]]) > 0.3
        }

    def one(self, language, kind):
        rng = self.rng
        if (
            language not in LOCALES
            or not self.names[language][kind]
            or (language in self.latin and rng.random() < 0.25)
        ):
            language = "en" if rng.random() < 0.5 else str(rng.choice(sorted(self.latin & set(LOCALES))))
        if kind == "ORG" and rng.random() < 0.25:
            return "".join(rng.choice(list("ABCDEFGHIJKLMNOPRSTUVW"), int(rng.integers(2, 6))))
        if kind == "ORG" and rng.random() < 0.5 and language in ORGANISATIONS:
            last = self.names[language]["PER"]
            return str(rng.choice(ORGANISATIONS[language])).format(
                LOC=self.one(language, "LOC"), NEW=last[rng.integers(len(last))].split(" ")[-1]
            )
        if language == "zh" and kind != "ORG" and rng.random() < 0.35:  # a foreign name
            parts = [
                "".join(rng.choice(SYLLABLES, int(rng.integers(2, 5))))
                for _ in range(1 + (kind == "PER" and rng.random() < 0.5))
            ]
            return "·".join(parts)
        own = self.names[language][kind] or self.names["en"][kind]
        return own[rng.integers(len(own))]


def names_task(tokenizer, rows):
    """The tag of each word, read at its first token."""
    from torch.nn import functional as F

    from skxlmr.estimators._tokens.task import TokenTask

    tags = np.empty(len(rows), object)
    weights = np.empty(len(rows), object)
    for i, row in enumerate(rows):
        tags[i] = np.array([LABELS.index(tag) for tag in row[2]], np.int64)
        weights[i] = np.ones(len(row[2]), np.float32)
    return TokenTask(tokenizer.encode_words([row[1] for row in rows]), tags, weights, F.cross_entropy)


def labelled(before, name, kind, after, language, rng):
    """Words and tags of a text with a name."""
    parts = [words_of(part, language, rng) for part in (before, name, after)]
    tags = [["O"] * len(parts[0]), [f"I-{kind}"] * len(parts[1]), ["O"] * len(parts[2])]
    if tags[1]:
        tags[1][0] = f"B-{kind}"
    return [*chain(*parts)], [*chain(*tags)]


def sentences(content, names, rng):
    """Language -> sentences without names, and language -> (sentence with one name, its place, its kind)."""
    english = content["english"]
    inner = {}
    for i, text in enumerate(english):
        words = re.findall(r"\w+", text)
        inner[i] = [w for w in words[1:] if w[:1].isupper() and w not in NO_NAMES], len(words), words[:1]
    plain, with_name = defaultdict(list), defaultdict(list)
    patterns = {kind: re.compile(rf"(?<!\w)(?:{forms})(?!\w)") for kind, forms in STAND_INS.items()}
    loose = {kind: re.compile(forms) for kind, forms in STAND_INS.items()}
    places = {language: {name for name in own["LOC"] if len(name) > 1} for language, own in names.items()}
    for i, language, kind, text in content["rows"]:
        capitals, n_words, first = inner[i]
        if kind == "word" or held_out(english[i]) or not 4 <= n_words <= 40 or len(text) > 250:
            continue
        for side, name in ((text, language), (english[i], "en")):
            if name == "en" and kind != "text" and rng.random() < 0.9:
                continue
            if not capitals and first[0] not in ("Tom", "Mary", "John", "Boston"):
                plain[name].append(side)
            elif (
                set(capitals) <= {"Tom", "Mary", "Boston", "Australia"}
                and len(capitals) + (first[0] in ("Tom", "Mary")) == 1
            ):
                for name_kind in STAND_INS:
                    spots = list((loose if name in SPACELESS else patterns)[name_kind].finditer(side))
                    if len(spots) == 1:
                        with_name[name].append((side, spots[0].span(), name_kind))
            elif len(capitals) == 1 and capitals[0] in places["en"] and name in LOCALES and name not in SPACELESS:
                spots = [spot for spot in re.finditer(r"\w+", side) if spot.group() in places[name]]
                if len(spots) == 1 and spots[0].start():
                    with_name[name].append((side, spots[0].span(), "LOC"))
    return plain, with_name


class Gazetteer:
    """Finds names that it knows in the words of a text, and the capitals that it does not know.

    A name that the texts also have without a capital is none here, and in small texts none is read at their beginning if it
    is one word. A word with a capital after a person is part of the name.
    """

    def __init__(self, names, texts):
        self.n_texts = len(texts)
        common = {word for text in texts for word in WORD.findall(text) if word.islower()}
        self.names = {}
        for kind in ("ORG", "PER", "LOC"):  # of one that is several, the last kind
            for name in names[kind]:
                words = tuple(WORD.findall(name))
                unclear = len(name) < 3 or name.lower() in common or name in NO_NAMES
                if 0 < len(words) <= 5 and not (len(words) == 1 and unclear):
                    self.names[words] = kind
            for name in STAND_INS[kind].split("|") if kind in STAND_INS else ():
                self.names[name,] = kind

    def tags(self, words):
        """Tags of words, or None if a capital within the text is unknown."""
        tags, i = [], 0
        while i < len(words):
            least = 1 if i or self.n_texts > 100_000 or words[0] in STAND_IN_WORDS else 2
            found = next(
                (n for n in range(min(5, len(words) - i), least - 1, -1) if tuple(words[i : i + n]) in self.names), 0
            )
            if found:
                kind = self.names[tuple(words[i : i + found])]
                tags += [f"B-{kind}", *[f"I-{kind}"] * (found - 1)]
            elif not words[i][:1].isupper() or i == 0 or words[i] in NO_NAMES:
                tags.append("O")
            elif tags[-1].endswith("PER"):
                tags.append("I-PER")
            else:
                return None
            i += max(1, found)
        return tags


def natural_rows(content, names, rng, most=3000):
    """Language -> (words, tags) of texts of which every name is known."""
    english, texts = content["english"], defaultdict(set)
    for i, language, kind, text in content["rows"]:
        if kind != "word" and not held_out(english[i]) and len(text) < 250:
            texts[language].add(text)
            texts["en"].add(english[i])
    found = {}
    for language in sorted(set(LOCALES) & set(texts) - set(WITHOUT_CAPITALS)):
        lines = sorted(texts[language])
        gazetteer, rows = Gazetteer(names[language], lines), []
        for i in rng.permutation(len(lines)):
            words = WORD.findall(lines[i])
            tags = gazetteer.tags(words) if 4 <= len(words) <= 50 else None
            names_found = {word for word, tag in zip(words, tags or (), strict=False) if tag != "O"}
            if names_found - STAND_IN_WORDS and not "".join(words[:2]).isupper():
                rows.append((words, tags))
            if len(rows) == most * (5 if language == "en" else 1):
                break
        found[language] = rows
    return found


def with_names_put_in(words, language, kind, names, rng):
    """Words and tags of a sentence with a name, or two, somewhere in it."""
    all_words, all_tags = [], []
    for _ in range(1 + (rng.random() < 0.4)):
        at = int(rng.integers(len(words) + 1))
        more, tags = labelled("", names.one(language, kind), kind, "", language, rng)
        all_words += [*words[:at], *more]
        all_tags += ["O"] * at + tags
        words, kind = words[at:], str(rng.choice(["PER", "LOC", "ORG"]))
    return all_words + words, all_tags + ["O"] * len(words)


def make_rows(data, out, n_rows=60_000, seed=20261133):
    """Words, tags and language of ``n_rows`` sentences."""
    rng = np.random.default_rng(seed)
    names = Names(read_names(data, rng), rng)
    content = json.loads((out / "rows.json").read_text(encoding="utf-8"))
    plain, with_name = sentences(content, names.names, rng)
    natural = natural_rows(content, names.names, rng)
    languages = [language for language, texts in plain.items() if len(texts) >= 300 and language in LOCALES]
    sizes = np.array([min(len(plain[language]), 20_000) ** 0.5 for language in languages])
    rows = []
    while len(rows) < n_rows:
        language = languages[rng.choice(len(languages), p=sizes / sizes.sum())]
        kind = str(rng.choice(["PER", "LOC", "ORG"], p=[0.36, 0.34, 0.3]))
        if rng.random() < min(0.4, len(natural.get(language, ())) / 1500):
            parts = natural[language][rng.integers(len(natural[language]))]
        elif with_name[language] and rng.random() < 0.35:
            text, (start, end), place_kind = with_name[language][rng.integers(len(with_name[language]))]
            kind = place_kind if rng.random() < 0.8 else "ORG"
            own = text[start:end] if kind == place_kind and rng.random() < 0.2 else names.one(language, kind)
            parts = labelled(text[:start], own, kind, text[end:], language, rng)
        else:
            text = plain[language][rng.integers(len(plain[language]))]
            words = words_of(text, language, rng)
            is_plain = rng.random() < 0.2
            parts = (words, ["O"] * len(words)) if is_plain else with_names_put_in(words, language, kind, names, rng)
        if 3 <= len(parts[0]) <= 60:
            if rng.random() < 0.04:
                parts = [word.lower() for word in parts[0]], parts[1]
            rows.append((language, *parts))
    return rows
