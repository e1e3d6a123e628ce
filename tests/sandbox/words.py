"""Small word lists, of which the lifelike account's names and texts are made."""

# ruff: noqa: RUF001
from __future__ import annotations

import dataclasses

TOPICS = ("pricing", "demo", "integration", "bug", "invoice")
"""What conversations are about; every language has a question and an answer for each."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where somebody is."""

    city: str
    region: str
    country: str
    country_name: str
    zone: str
    latitude: float
    longitude: float


@dataclasses.dataclass(frozen=True)
class Language:
    """Who speaks it, and what is said.

    Attributes:
        locale: The language and country that a browser names.
        weight: How many of a hundred contacts speak it.
        place: Where they are.
        first: First names.
        last: Family names.
        family_first: Whether the family name comes first.
        texts: What is said whatever the topic is, by occasion.
        topics: The question and the answer, by topic.
    """

    locale: str
    weight: int
    place: Place
    first: tuple[str, ...]
    last: tuple[str, ...]
    texts: dict[str, tuple[str, ...]]
    topics: dict[str, tuple[str, str]]
    family_first: bool = False


def _topics(*pairs: tuple[str, str]) -> dict[str, tuple[str, str]]:
    return dict(zip(TOPICS, pairs, strict=True))


ENGLISH = Language(
    "en-US",
    52,
    Place("Boston", "Massachusetts", "US", "United States", "America/New_York", 42.36, -71.06),
    ("Ava", "Noah", "Grace", "Liam", "Olivia", "Samuel", "Priya", "Marcus", "Chloe", "Ethan"),
    ("Baker", "O'Neill", "Nguyen", "Carter", "Okafor", "Smith-Jones", "Reyes", "Walsh"),
    {
        "hello": (
            "Hi there 👋 What brings you here today?",
            "Hello! Can I help you find something?",
        ),
        "handover": ("Let me get someone from the team.", "One moment, I'll fetch a colleague."),
        "later": ("We're out of the office. Someone will get back to you in the morning.",),
        "reply": (
            "About 40 people, in two offices.",
            "Yes, that's what I meant.",
            "Hmm, I still see the old one & a spinner.",
            "Could you send me a link?",
            "Works now!",
        ),
        "more": (
            "How many people would use it?",
            "Here's the article: https://help.acme.example/start",
            "Could you try it in another browser?",
            "I've just changed that on our side.",
            "Let me check with engineering.",
        ),
        "file": ("Here's what I see.", "The file is attached."),
        "booked": ("Great, the meeting is in your calendar.",),
        "thanks": ("Thanks, that helps!", "Perfect, thank you 🙏"),
        "bye": ("You're welcome. Have a good day!", "Any time!"),
    },
    _topics(
        ("How much is it for a team of 40?", "It's $29 per person a month; yearly saves 20 %."),
        ("Could I see a demo this week?", "Of course. Which day suits you best?"),
        ("Does it work with Salesforce & HubSpot?", "It does: both are under Settings > Apps."),
        ("The export stops at 99 %.", "Sorry about that! Which browser is it?"),
        ("Our last invoice has the wrong VAT number.", "I'll have it corrected today."),
    ),
)

GERMAN = Language(
    "de-DE",
    12,
    Place("Köln", "Nordrhein-Westfalen", "DE", "Germany", "Europe/Berlin", 50.94, 6.96),
    ("Jürgen", "Anke", "Björn", "Lena", "Matthias", "Käthe"),
    ("Müller", "Groß", "Schäfer", "Yıldız", "von der Heide"),
    {
        "hello": ("Hallo 👋 Was führt Sie zu uns?",),
        "handover": ("Einen Moment, ich hole jemanden dazu.",),
        "later": ("Unser Büro ist gerade geschlossen. Wir melden uns morgen früh.",),
        "reply": ("Ungefähr 40 Leute.", "Ja, genau.", "Bei mir geht es noch nicht."),
        "more": ("Wie viele Personen wären das?", "Ich habe das eben bei uns geändert."),
        "file": ("So sieht es bei mir aus.",),
        "booked": ("Prima, der Termin steht in Ihrem Kalender.",),
        "thanks": ("Super, vielen Dank!", "Danke schön!"),
        "bye": ("Gern geschehen. Schöne Grüße!",),
    },
    _topics(
        ("Was kostet es für 40 Personen?", "29 € pro Person und Monat, jährlich 20 % weniger."),
        ("Könnte ich diese Woche eine Vorführung sehen?", "Natürlich. Welcher Tag paßt Ihnen?"),
        ("Läuft es auch mit SAP?", "Ja, über unsere Schnittstelle."),
        ("Der Export bleibt bei 99 % stehen.", "Das tut mir leid! Welcher Browser ist es?"),
        ("Auf der Rechnung fehlt unsere USt-IdNr.", "Wir schicken Ihnen heute eine neue."),
    ),
)

FRENCH = Language(
    "fr-FR",
    9,
    Place("Besançon", "Bourgogne-Franche-Comté", "FR", "France", "Europe/Paris", 47.24, 6.02),
    ("Zoé", "François", "Hélène", "Loïc", "Maëlys"),
    ("Lefèvre", "Dubois", "N'Diaye", "Garçon", "Saint-Cyr"),
    {
        "hello": ("Bonjour 👋 Que puis-je faire pour vous ?",),
        "handover": ("Un instant, j'appelle un collègue.",),
        "later": ("Nos bureaux sont fermés. Nous vous répondrons demain matin.",),
        "reply": ("Une quarantaine de personnes.", "Oui, c'est ça.", "Toujours rien chez moi…"),
        "more": ("Combien de personnes êtes-vous ?", "Je viens de le changer de notre côté."),
        "file": ("Voici ce que je vois.",),
        "booked": ("Parfait, le rendez-vous est dans votre agenda.",),
        "thanks": ("Merci beaucoup !", "Génial, merci !"),
        "bye": ("Avec plaisir. Bonne journée !",),
    },
    _topics(
        ("Quel est le prix pour 40 personnes ?", "29 € par personne et par mois."),
        ("Puis-je voir une démo cette semaine ?", "Bien sûr. Quel jour vous convient ?"),
        ("Est-ce compatible avec Salesforce ?", "Oui, sous « Réglages > Applications »."),
        ("L'export s'arrête à 99 %.", "Désolé ! Quel navigateur utilisez-vous ?"),
        ("Notre facture n'a pas le bon numéro de TVA.", "Je la fais corriger aujourd'hui."),
    ),
)

SPANISH = Language(
    "es-MX",
    9,
    Place("Ciudad de México", "CDMX", "MX", "Mexico", "America/Mexico_City", 19.43, -99.13),
    ("Íñigo", "Lucía", "José María", "Ximena", "Begoña"),
    ("Núñez", "García Márquez", "Peña", "Ibáñez"),
    {
        "hello": ("¡Hola! 👋 ¿En qué puedo ayudarte?",),
        "handover": ("Un momento, busco a alguien del equipo.",),
        "later": ("Nuestra oficina está cerrada. Te contestamos mañana.",),
        "reply": ("Unas 40 personas.", "Sí, exacto.", "Todavía no me funciona."),
        "more": ("¿Cuántas personas lo usarían?", "Acabo de cambiarlo por aquí."),
        "file": ("Esto es lo que veo.",),
        "booked": ("¡Listo! La reunión está en tu calendario.",),
        "thanks": ("¡Muchas gracias!", "¡Genial, gracias!"),
        "bye": ("De nada. ¡Que tengas un buen día!",),
    },
    _topics(
        ("¿Cuánto cuesta para 40 personas?", "29 dólares por persona al mes."),
        ("¿Puedo ver una demo esta semana?", "Claro. ¿Qué día te viene bien?"),
        ("¿Funciona con HubSpot?", "Sí, en «Ajustes > Aplicaciones»."),
        ("La exportación se para en el 99 %.", "¡Lo siento! ¿Qué navegador usas?"),
        ("La factura tiene mal el RFC.", "La corregimos hoy mismo."),
    ),
)

UKRAINIAN = Language(
    "uk-UA",
    5,
    Place("Львів", "Львівська область", "UA", "Ukraine", "Europe/Kyiv", 49.84, 24.03),
    ("Оксана", "Тарас", "Соломія", "Дмитро"),
    ("Шевченко", "Коваль", "Гнатюк"),
    {
        "hello": ("Вітаємо 👋 Чим можемо допомогти?",),
        "handover": ("Хвилинку, я покличу колегу.",),
        "later": ("Офіс зараз зачинено. Відповімо вам уранці.",),
        "reply": ("Приблизно 40 осіб.", "Так, саме так.", "У мене ще не працює."),
        "more": ("Скільки людей цим користуватиметься?", "Щойно змінили це в нас."),
        "file": ("Ось що я бачу.",),
        "booked": ("Чудово, зустріч уже у вашому календарі.",),
        "thanks": ("Дуже дякую!",),
        "bye": ("Будь ласка. Гарного дня!",),
    },
    _topics(
        ("Скільки коштує на 40 осіб?", "29 доларів за особу на місяць."),
        ("Чи можна цього тижня побачити демо?", "Звісно. Який день вам зручний?"),
        ("Чи працює із Salesforce?", "Так, у розділі «Налаштування»."),
        ("Експорт зупиняється на 99 %.", "Перепрошуємо! Який у вас браузер?"),
        ("У рахунку помилка в коді ЄДРПОУ.", "Сьогодні виправимо."),
    ),
)

ARABIC = Language(
    "ar-EG",
    4,
    Place("القاهرة", "القاهرة", "EG", "Egypt", "Africa/Cairo", 30.04, 31.24),
    ("ليلى", "يوسف", "مريم", "كريم"),
    ("حداد", "المصري", "عبد الله"),
    {
        "hello": ("أهلاً بك 👋 كيف يمكننا مساعدتك؟",),
        "handover": ("لحظة من فضلك، سأستدعي أحد الزملاء.",),
        "later": ("مكتبنا مغلق الآن. سنرد عليك صباح الغد.",),
        "reply": ("حوالي ٤٠ شخصاً.", "نعم، بالضبط.", "ما زال لا يعمل عندي."),
        "more": ("كم شخصاً سيستخدمه؟", "غيّرنا ذلك من جهتنا للتو."),
        "file": ("هذا ما أراه.",),
        "booked": ("رائع، الموعد في تقويمك.",),
        "thanks": ("شكراً جزيلاً!",),
        "bye": ("على الرحب والسعة.",),
    },
    _topics(
        ("كم يكلف لفريق من ٤٠ شخصاً؟", "٢٩ دولاراً للشخص شهرياً."),
        ("هل يمكنني رؤية عرض هذا الأسبوع؟", "بالطبع. أي يوم يناسبك؟"),
        ("هل يعمل مع Salesforce؟", "نعم، من الإعدادات."),
        ("يتوقف التصدير عند 99 %.", "نعتذر! أي متصفح تستخدم؟"),
        ("رقم الضريبة في الفاتورة خطأ.", "سنصححه اليوم."),
    ),
)

JAPANESE = Language(
    "ja-JP",
    5,
    Place("大阪市", "大阪府", "JP", "Japan", "Asia/Tokyo", 34.69, 135.5),
    ("美咲", "翔太", "さくら", "健一"),
    ("佐藤", "高橋", "渡辺"),
    {
        "hello": ("こんにちは 👋 ご用件をお聞かせください。",),
        "handover": ("少々お待ちください。担当者におつなぎします。",),
        "later": ("営業時間外です。明朝ご連絡いたします。",),
        "reply": ("40名ほどです。", "はい、そうです。", "まだ動きません。"),
        "more": ("何名様でお使いになりますか？", "こちらで設定を変更しました。"),
        "file": ("画面はこうなっています。",),
        "booked": ("カレンダーに予定を登録しました。",),
        "thanks": ("ありがとうございます！",),
        "bye": ("どういたしまして。",),
    },
    _topics(
        ("40名だといくらですか？", "お一人様、月額29ドルです。"),
        ("今週デモを見られますか？", "もちろんです。ご都合のよい日は？"),
        ("Salesforceと連携できますか？", "はい、「設定」からできます。"),
        ("エクスポートが99％で止まります。", "申し訳ございません。ブラウザは何ですか？"),
        ("請求書の宛名が違います。", "本日中に修正いたします。"),
    ),
    family_first=True,
)

HINDI = Language(
    "hi-IN",
    4,
    Place("पुणे", "महाराष्ट्र", "IN", "India", "Asia/Kolkata", 18.52, 73.86),
    ("आरव", "दीक्षा", "ईशान", "मीरा"),
    ("शर्मा", "पाटिल", "कुलकर्णी"),
    {
        "hello": ("नमस्ते 👋 हम आपकी क्या मदद कर सकते हैं?",),
        "handover": ("एक क्षण, मैं किसी सहकर्मी को बुलाता हूँ।",),
        "later": ("कार्यालय अभी बंद है। हम कल सुबह उत्तर देंगे।",),
        "reply": ("लगभग ४० लोग।", "जी हाँ।", "मेरे यहाँ अब भी नहीं चल रहा।"),
        "more": ("कितने लोग इसका उपयोग करेंगे?", "हमने अभी इसे बदल दिया है।"),
        "file": ("मुझे यह दिख रहा है।",),
        "booked": ("बैठक आपके कैलेंडर में है।",),
        "thanks": ("बहुत धन्यवाद!",),
        "bye": ("आपका स्वागत है।",),
    },
    _topics(
        ("४० लोगों के लिए कितना लगेगा?", "प्रति व्यक्ति २९ डॉलर प्रति माह।"),
        ("क्या इस सप्ताह डेमो देख सकते हैं?", "ज़रूर। कौन सा दिन ठीक रहेगा?"),
        ("क्या यह Salesforce के साथ चलता है?", "हाँ, सेटिंग्स में।"),
        ("निर्यात 99 % पर रुक जाता है।", "क्षमा करें! कौन सा ब्राउज़र है?"),
        ("बिल में GST संख्या गलत है।", "आज ही ठीक कर देंगे।"),
    ),
)

LANGUAGES = (ENGLISH, GERMAN, FRENCH, SPANISH, UKRAINIAN, ARABIC, JAPANESE, HINDI)

COMPANIES = (
    ("Blue", "Nord", "Alpen", "Pacific", "Clear", "Iron", "Lumen", "Söder", "Terra", "Quick"),
    ("Logistics", "Analytics", "Bikes", "Foods", "Health", "Robotics", "Studio", "Works"),
)

NOTES = (
    "Asked before, see the other conversation.",
    "Knows Zoë from the fair. Be nice 🙂",
    "Their plan ends in March.",
)

TAGS = {
    "pricing": ("sales", "4CAF50"),
    "demo": ("sales", "4CAF50"),
    "integration": ("product", "2196F3"),
    "bug": ("bug", "F44336"),
    "invoice": ("billing", "FF9800"),
}
"""A conversation's tag and its colour, by topic."""
