"""
The words that every sentence needs, in the languages written most.

Running text is a fifth to a half articles, pronouns, prepositions and the like, whatever it is about.
Words and pieces of words drawn at random have hardly any. The lists are the commonest such words of each
language; lists of names and most code read as 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

_LISTS: Final = (
    # English
    "the of and to in is that it for was on are as with his they be at this have from or had by but not what all "
    "were we when your can there an each which she do how their if will up other about out many then them these "
    "so some her would like him into has more no than been its who did my over also may should must could between "
    "because through where while after before such only any very you he a i does being just most both own same "
    "those our us me until during without within",
    # German
    "der die das und in den von zu mit ist im für des auf dem nicht ein eine als auch es an sich werden aus er "
    "hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor zur "
    "bis mehr durch man kann wenn ich wir ihr sein seine ihre diese dieser dieses wurde wurden unter können muss "
    "müssen eines keine mich dich uns ihnen was wer welche damit dann da hier jede jeder zwischen sowie bzw gegen "
    "ohne etwa alle",
    # French
    "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont avec son aux "
    "ou je nous vous elle cette mais comme sa ses leur fait été même ils deux tout peut être si on avait sans ont "
    "lors d l qu n s c j y à où dont très lui leurs ces quand entre après avant sous notre votre cet était doit "
    "peuvent",
    # Spanish
    "de la que el en y a los se del las un por con no una su para es al lo como más o pero sus le ha me si sin "
    "sobre este ya entre cuando todo esta ser son dos también fue había era muy hasta desde está mi porque qué "
    "sólo han yo hay vez puede todos así nos ni parte él uno donde bien eso cada les e esto estos estas",
    # Italian
    "di e il la che in a per un del è non una sono i della si con da le dei al nel come più gli alla su lo ma "
    "anche se delle o ha ci questo questa essere alle dal suo sua loro nella ai ad ed dalla degli sulla perché "
    "quando dove chi cui tra fra stato era può hanno sul nei l",
    # Portuguese
    "de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele das tem à seu "
    "sua ou ser quando muito há nos já está eu também só pelo pela até isso são entre depois sem mesmo aos seus "
    "quem nas me esse eles estão você essa num nem suas meu às minha têm",
    # Dutch
    "de van het een en in is dat op te zijn met voor niet aan er om ook als dan maar bij nog uit door naar ze hij "
    "wordt worden deze dit of tot over heeft die hebben was kan meer wij je we zich hun waar wat werd zal zou "
    "geen onder",
    # Swedish
    "och i att det som en på är av för med den till inte har de ett om var vi jag men så från kan när eller hade "
    "du ska vid han hon sig efter där också denna detta än genom över mot utan sin sitt ut upp alla",
    # Danish and Norwegian
    "og i at det er en til af av som på de med han for den der var ikke et fra sig seg har om men så vil kan blev "
    "jeg hun vi også eller efter etter under når ved over skal være blir bliver dette denne",
    # Polish
    "i w na z do nie się to że jest o jak za ale po od co tak przez dla przy ten tym są ich jego tylko lub oraz "
    "czy być może już było które który która a nad pod u we ze bez tego tej te ta jako jej gdy jeśli można aby "
    "więc także gdzie przed między podczas ma mogą należy zostanie pliku",
    # Czech and Slovak
    "a v se na je že s z do to i o k ve pro za by ale jako po co jak od nebo při jsou byl která který které tak "
    "až aby když už jen může u bude být není jeho této tento si pri alebo ako sú bol ktorý ktorá ktoré sa",
    # Hungarian
    "a az és hogy nem is egy ez azt meg ha csak de már volt még mint vagy el ki mert minden ezt között után amely "
    "lehet kell van nincs be fel ami akkor itt ott",
    # Finnish
    "ja on ei se että oli hän mutta ovat tai kun niin myös kuin jos joka sen mukaan ole vain sitä hänen voi tämä "
    "tämän ne jotka olla jo sekä kanssa ennen siitä jonka mitä",
    # Romanian
    "și de în la a o nu cu pe că să din un pentru este care se mai ca au sau dar fi ce al prin sunt fost lui ale "
    "după poate cum fără acest această",
    # Turkish
    "ve bir bu da de için ile olarak çok daha olan gibi en ne kadar sonra var ancak her o ise ya mi değil veya "
    "tarafından olduğu sadece bunu şu ben biz",
    # Vietnamese
    "và của là có trong được không cho một với các những để đã người khi này từ ra đến về như nhưng tại vào cũng "
    "bạn hơn hoặc nếu thì sẽ bị theo trên nhiều",
    # Indonesian and Malay
    "yang dan di dengan untuk dari ini itu pada dalam tidak adalah akan ke atau juga oleh sebagai karena bisa ada "
    "lebih mereka saya kita kami anda dapat telah sudah seperti tersebut jika",
    # Russian
    "и в не на что с по как это он я его к но они мы из у за от то все так же для о был ее вы а бы если или при "
    "только когда уже до их со во быть также может чтобы этот этого эта этой эти были было между после который "
    "которые которая того том тем нет можно под над",
    # Ukrainian
    "і в не на що з по як це він я його до але вони ми у за від то все так же для про був її ви та й або при "
    "тільки коли вже їх зі бути також може щоб цей цього ця є",
    # Greek
    "και το να του η της με που την από για τα είναι των σε ο οι στο θα τη στην τον τους δεν τις ένα μια ότι ή αν "
    "στη στα ως αλλά κατά μας σας",
)

#: Letters of the scripts that the languages above are written in.
_WRITTEN: Final = re.compile("[a-z\u00df-\u024f\u0370-\u03ff\u0400-\u04ff\u1ea0-\u1eff]")


def _by_word() -> dict[str, tuple[int, ...]]:
    found: dict[str, set[int]] = {}
    for number, words in enumerate(_LISTS):
        for word in words.split():
            found.setdefault(word, set()).add(number)
    return {word: tuple(sorted(numbers)) for word, numbers in found.items()}


#: Languages, by their place in the lists, in which a word is such a word.
FUNCTION_WORDS: Final = _by_word()


def _is_written(word: str) -> bool:
    return _WRITTEN.match(word) is not None


def function_share(words: Sequence[str]) -> float:
    """
    Function words of the one language that has most of them, of all words.

    Args:
        words: Words of nothing but letters, in lower case; not empty.

    Returns:
        The share; nan where most words are in scripts of which no language has a list.
    """
    # Most often all are ASCII, which is quicker to see.
    if 2 * sum(map(str.isascii, words)) < len(words) and 2 * sum(map(_is_written, words)) < len(words):
        return math.nan
    counts = [0] * len(_LISTS)
    for languages in map(FUNCTION_WORDS.get, words):
        if languages is not None:
            for number in languages:
                counts[number] += 1
    return max(counts) / len(words)
