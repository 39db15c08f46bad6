"""Tables as written by common programs, in the encodings of various countries."""

import pytest

from anaphora.reports.text_encoding import decode

NUMBERS = "".join(f"{number};{number * 37};{number * 1.5}\n" for number in range(2000))

TEXTS = [
    ("cp1251", "Дата;Регион;Выручка\n01.03.2026;Москва;1 250 000,50\n02.03.2026;Санкт-Петербург;980 400,00\n"),
    (
        "cp1251",
        (
            "Отчёт о продажах;Март 2026\nКлиент;Сумма;Примечание\n"
            "ООО «Ромашка»;12 000 руб.;Оплачено полностью – без замечаний\n"
        ),
    ),
    ("cp1251", "ИТОГО;ВЫРУЧКА;ПРИБЫЛЬ\nМОСКВА;1;2\n"),
    ("koi8-r", "Дата;Регион;Выручка\n01.03.2026;Москва;1 250 000,50\n02.03.2026;Санкт-Петербург;980 400,00\n"),
    ("koi8-r", "Отчет о продажах;Март\nИТОГО;ВЫРУЧКА\n"),
    (
        "cp1250",
        (
            "Datum;Město;Tržby\n1.3.2026;České Budějovice;12 500 Kč\n"
            "2.3.2026;Plzeň;9 800 Kč\nŽďár nad Sázavou;Příbram;Ústí nad Labem\n"
        ),
    ),
    ("cp1250", "Data;Miasto;Sprzedaż;Uwagi\n1;Łódź;12 zł;Płatność zaległa\n2;Gdańsk;9 zł;Księgowość\n"),
    (
        "cp1250",
        (
            "Dátum;Város;Bevétel;Megjegyzés\n1;Győr;12 Ft;fizetési határidő elmúlt\n"
            "2;Székesfehérvár;9 Ft;összesítő, ügyfél időszerű\n"
        ),
    ),
    ("cp1252", "Datum;Stadt;Umsatz €\n01.03.2026;Köln;1.250,50 €\n02.03.2026;Düsseldorf – Süd;“Größe”\n"),
    (
        "cp1252",
        (
            "Désignation;Quantité;Règlement\nPièce détachée;12;Chèque à réception\n"
            "Câble élève;3;Reçu le 3 août – payé\nŒuvre;1;déjà réglé\n"
        ),
    ),
    ("cp1252", "Descripción;Año;Región\nEspaña;2026;Málaga\nCoruña;2026;Cádiz\n¿Qué?;1;señal\n"),
    ("cp1252", "Försäljning;Område;År\nMalmö;12;Åre\nGöteborg;3;Värmland\n"),
    ("cp1252", "Omsætning;Område;År\nKøbenhavn;12;Ærø\nÅrhus;3;Sjælland\n"),
    ("cp1252", "Descrição;Região;Mês\nSão Paulo;1;não há informações\nBelém;2;Março\n"),
    ("cp1252", "Città;Perché;Quantità\nForlì;1;è già più\n"),
    ("shift_jis", "日付,支店,売上\n2026-03-01,東京本社,1250000\n2026-03-02,大阪支店,980400\n"),
    ("shift_jis", "ダッシュボード,売り上げレポート\n2026,カテゴリー別\n"),
    ("gb18030", "日期,地区,销售额\n2026-03-01,北京,1250000\n2026-03-02,上海浦东新区,980400\n"),
    ("gb18030", "报表名称,销售总额,备注\n三月,一百万,已完成对账，没有问题。\n"),
    ("big5", "日期,地區,銷售額\n2026-03-01,臺北,1250000\n2026-03-02,高雄市,980400\n報表名稱,銷售總額\n"),
    ("euc_kr", "날짜,지역,매출\n2026-03-01,서울,1250000\n2026-03-02,부산광역시,980400\n"),
    ("euc_jp", "日付,支店,売上\n2026-03-01,東京本社,1250000\nダッシュボード,売り上げ\n"),
    ("cp1253", "Ημερομηνία;Περιοχή;Πωλήσεις\n1;Αθήνα;12\n2;Θεσσαλονίκη;9\n"),
    ("cp1254", "Tarih;Şehir;Satış\n1;İstanbul;12\n2;İzmir;9\nÇankırı;Muğla;Değişim\n"),
    (
        "cp1251",
        (
            "№;Наименование товара;Кол-во;Цена, руб.\n1;Бумага А4 «Снегурочка»;25;349,90\n"
            "2;Картридж HP LaserJet;3;5 120,00\n"
        ),
    ),
    ("cp1251", "Звіт;Місяць;Прибуток\nКиїв;березень;12\nЛьвів;квітень;9\nЇжа;ґрунт;є\n"),
    ("koi8_r", "Сервер;Время отклика, мс;Состояние\nбаза данных;12;работает\nпочта;340;перегружена\n"),
    ("cp1250", "Pobočka;Obrat;Změna\nPraha 1 – Můstek;125 000 Kč;zvýšení\nHradec Králové;98 000 Kč;beze změny\n"),
    ("cp1250", "Štvrťrok;Výnos;Poznámka\n1.;12 €;nižší než vlani\n2.;15 €;ľahko vyšší, súhlasí\n"),
    ("cp1250", "Zgłoszenia;Średni czas;Źródło\n12;3,5;formularz www\n9;1,2;wiadomość e-mail – pilne\n"),
    ("cp1252", "Filiale;Umsatz;Änderung\nMünchen – Süd;12.500 €;+3 %\nZürich;9.800 CHF;„geprüft“\nFläche;12 m²;5 m³\n"),
    (
        "cp1252",
        "Région;Chiffre d’affaires;Écart\nÎle-de-France;12 500 €;+3 %\nRhône-Alpes;9 800 €;à vérifier – très élevé\n",
    ),
    ("cp1252", "Tienda;Ventas;Variación\nLogroño;12.500 €;mínima\n¿Vigo?;9.800 €;según año n.º 2\n"),
    ("cp1252", "Item;Price;Note\nCoffee;£5;customer’s “usual”\nTea;£4;20 °C – naïve\n"),
    ("shift_jis", "店舗名,売上高,前年比\n新宿本店,12500000,103%\n横浜店,9800000,98%\n備考：キャンペーン実施中\n"),
    ("gb18030", "门店,销售额,同比\n北京旗舰店,12500000,103%\n上海南京路店,9800000,98%\n备注：促销活动进行中\n"),
    ("utf-16", "Дата;Выручка\n1;12\n"),
    ("utf-16", "Größe;Město;日付\n1;2;3\n"),
    ("utf-8-sig", "Größe;Město;日付\n1;2;3\n"),
    ("utf-8", "Größe;Město;日付\n1;2;3\n"),
]


@pytest.mark.parametrize(("encoding", "text"), TEXTS)
def test_a_table_is_read_in_the_encoding_it_was_written_in(encoding: str, text: str) -> None:
    assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize(
    ("encoding", "head"),
    [
        ("cp1251", "Дата;Регион;Выручка\n"),
        ("koi8_r", "Дата;Регион;Выручка\n"),
        ("cp1250", "Datum;Příjem;Částka\n"),
        ("cp1250", "Miesiąc;Sprzedaż;Różnica\n"),
        ("cp1252", "Größe;Menge\n"),
        ("cp1252", "Umsatz €\n"),
        ("cp1252", "“Quoted” – it’s here…\n"),
        ("shift_jis", "日付,支店,売上\n"),
        ("gb18030", "日期,地区,销售额\n"),
    ],
)
def test_a_heading_above_numbers_is_enough_to_detect_the_encoding(encoding: str, head: str) -> None:
    text = head + NUMBERS
    assert decode(text.encode(encoding)) == text


def test_any_bytes_can_be_decoded() -> None:
    assert "ABC" in decode(bytes(range(256)) * 200)
