"""Invented people whose names are hard to find, and the ways in which their names are written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Writing:
    """A name as a header has it, and as a text has it, with what must not be left of it."""

    header: str
    written: str
    telling: tuple[str, ...]


# Header (PN), then the parts that identify, then ways of writing it.
_ROWS = """
Schmidt^Anna | Schmidt Anna | Schmidt, Anna; Anna Schmidt; A. Schmidt; Schmidt A; SCHMIDT ANNA; \
Schmidt's; anna.schmidt; Schmidt_Anna; SchmidtAnna; Fr. Schmidt; aschmidt; Schmidts Befund; \
Schmidt-Anna; SCHMIDT^ANNA; schmidt,anna
Müller^Jürgen | Müller Mueller Muller Jürgen Juergen Jurgen | Müller; Mueller; Muller; MÜLLER; \
MUELLER JUERGEN; Juergen Mueller; J. Müller; Jurgen Muller; mueller_juergen; Müllers; jmueller
Mueller^Juergen | Müller Mueller Muller Jürgen | Müller; Jürgen Müller; Muller; MÜLLER, JÜRGEN
Groß^Günther | Groß Gross Günther Guenther | Gross Guenther; GROSS; Groß; GROẞ, GÜNTHER; G. Gross
Åkerström^Björn | Åkerström Akerstrom Aakerstroem Björn | Akerstrom; Åkerström Björn; AKERSTROM
Sørensen^Søren | Sørensen Sorensen Soerensen | Sorensen; Soerensen; Sørensen Søren; S. SØRENSEN
Núñez^José María | Núñez Nunez José | Nunez Jose; José Núñez; JOSE MARIA NUNEZ; José M. Núñez
Wiśniewska^Grażyna | Wiśniewska Wisniewska Grażyna Grazyna | Wisniewska; GRAŻYNA WIŚNIEWSKA; \
Grazyna Wisniewska; G. Wiśniewska; wisniewska.grazyna
O'Connor^Siobhán | O'Connor OConnor Connor Siobhán Siobhan | O'Connor; OConnor; O’Connor Siobhan; \
Siobhán O'Connor; O CONNOR SIOBHAN; O'CONNOR'S
van der Meulen^Pieter | Meulen Pieter | Pieter van der Meulen; van der Meulen, P.; P. v.d. Meulen; \
VAN DER MEULEN; Vandermeulen Pieter; Meulen, Pieter van der
de la Cruz^María | Cruz María Maria | María de la Cruz; de la Cruz M.; DE LA CRUZ, MARIA; \
Maria Delacruz
von Hohenberg^Otto | Hohenberg Otto | Otto v. Hohenberg; von Hohenberg; VON HOHENBERG OTTO
Meyer-Landrut^Lena | Landrut Meyer Lena | Lena Meyer-Landrut; Meyer Landrut; MEYERLANDRUT; \
Meyer-L.; Landrut, Lena; L. Meyer-Landrut
García Márquez^Gabriel | García Garcia Márquez Marquez | Gabriel García; García Márquez; \
G. Garcia Marquez; MARQUEZ; Garcia-Marquez
Li^Xiaopeng | Xiaopeng | Li Xiaopeng; Xiaopeng Li; LI XIAOPENG; X. Li; Li, X.; Xiao-Peng Li; \
Li Xiao Peng; lixiaopeng; LI_XIAOPENG
Wu^Mei=吴^梅 | 吴梅 | Wu Mei; 吴梅; WU^MEI; Mei Wu; wumei
Ng^Wai Ming | Ng Ming | Ng Wai Ming; NG WAI MING; Wai Ming Ng; W.M. Ng; Ng, Wai-Ming
Ouyang^Siyuan=欧阳^思远 | Ouyang Siyuan 欧阳思远 欧阳 思远 | 欧阳思远; Ouyang Siyuan; \
Siyuan Ouyang; 欧阳 思远; 患者欧阳思远; OU YANG SI YUAN; Ou-Yang Siyuan; ouyangsiyuan
王^建国 | 王建国 建国 Wang Jianguo | 王建国; Wang Jianguo; Jianguo Wang; WANG JIAN GUO; 王 建国; \
Jian-Guo Wang; wangjianguo; wang_jianguo
张伟 | 张伟 | 张伟; Zhang Wei; ZHANG WEI; Wei Zhang; 患者张伟
Takanashi^Chihiro=小鳥遊^千尋=たかなし^ちひろ | Takanashi Chihiro 小鳥遊 千尋 たかなし | \
小鳥遊千尋; \
小鳥遊 千尋様; Takanashi C.; CHIHIRO TAKANASHI; たかなし ちひろ; タカナシ チヒロ; ﾀｶﾅｼ ﾁﾋﾛ
Yamada^Tarou=山田^太郎=やまだ^たろう | Yamada 山田 やまだ ヤマダ | YAMADA TARO; Yamada Tarou; \
山田太郎; \
Taro Yamada; ヤマダ タロウ; 山田様
Hong^Gildong=홍^길동=홍^길동 | 홍길동 길동 Gildong | 홍길동; HONG GILDONG; Hong Gil Dong; \
Gil-dong Hong; 홍 길동; 홍길동님; hong_gildong
Kim^Hyunjung=김^현정 | 김현정 현정 Hyunjung | 김현정; Kim Hyunjung; Hyun-Jung Kim; KIM HYUN JUNG
Кузнецова^Людмила | Кузнецова Людмила Kuznetsova Kuznecova Lyudmila Ludmila | Кузнецова Людмила; \
КУЗНЕЦОВА; Kuznetsova Lyudmila; Л. Кузнецова; Кузнецовой Л.; Ludmila Kuznetsova; Людмилы Кузнецовой
Verescagin^Arkadij=Верещагин^Аркадий | Верещагин Vereshchagin Verescagin Аркадий Arkady | \
Верещагин А.; Vereshchagin Arkady; ВЕРЕЩАГИН АРКАДИЙ; Верещагина; Arkadiy Vereshchagin
Щербакова^Юлия | Щербакова Shcherbakova Юлия | Shcherbakova Yulia; Щербакова; Scherbakova Julia
Παπαδόπουλος^Γιώργος | Παπαδόπουλος Papadopoulos | Παπαδοπουλος; Papadopoulos; ΠΑΠΑΔΟΠΟΥΛΟΣ Γ.; \
G. Papadopoulos
Brown^Lisa | Brown Lisa | Lisa Brown; Brown, Lisa; BROWN LISA; Mrs. Brown; L. Brown; Brown L.; \
BROWN^LISA; brown_lisa; lbrown
Long^Thomas | Thomas | Thomas Long; Long, Thomas; T. Long; LONG THOMAS; Mr Long; Long T
Hand^Wolfgang | Wolfgang | Hand, Wolfgang; Wolfgang Hand; HAND WOLFGANG; Herr Hand
Mai^Thi Hoa | Hoa | Mai Thi Hoa; MAI THI HOA; Thi Hoa Mai; Frau Mai
Young^April | | April Young; Young, April; YOUNG APRIL; Ms. Young
White^Rosalind | Rosalind | White Rosalind; Rosalind White; R. White; WHITE, ROSALIND
Nguyễn^Thị Hương | Nguyễn Nguyen Hương Huong | Nguyen Thi Huong; Nguyễn Thị Hương; NGUYEN HUONG; \
Huong Nguyen
al-Hassan^Yusuf | Hassan Yusuf | Yusuf al-Hassan; Al Hassan, Yusuf; ALHASSAN YUSUF; Y. Al-Hassan
Smith Jr^John^Q^Dr^III | Smith | John Q Smith; SMITH JOHN; Dr. John Smith III; J.Q. Smith; Smith's
Abernethy^Margaret Rose | Abernethy Margaret | Margaret R. Abernethy; Abernethy, M.R.; \
ABERNETHY_MARGARET_ROSE; M.Abernethy; mabernethy; Abernethy-Margaret; Abernethys
"""


def writings() -> Iterator[Writing]:
    """Yield every way of writing every name, by row."""
    for row in _ROWS.replace("\\\n", "").strip().splitlines():
        header, telling, ways = (part.strip() for part in row.split("|"))
        for written in ways.split(";"):
            yield Writing(header, written.strip(), tuple(telling.split()))


HEADERS = tuple(dict.fromkeys(one.header for one in writings()))
