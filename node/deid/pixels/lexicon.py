"""Words by which text in pixels is judged: settings, units, anatomy; labels, places, surnames."""

from __future__ import annotations

MONTHS = (
    "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mär|mai|okt|dez|janv|févr|fev|avr|juin|juil"
    "|août|déc|ene|abr|ago|dic|gen|mag|giu|lug|set|ott|out|янв|фев|мар|апр|мая|июн|июл|авг|сен"
    "|окт|ноя|дек"
)
"""Beginnings of months' names in the languages that can be read."""

LABELS = r"""
(?<![^\W\d_])(?:
  (?:pat(?:ient)?|pt)[\s._]*(?:name|nm|id|no|num(?:ber)?|\#)
  |(?:last|first|given|family|sur|middle)[\s._]*name|surname|vorname|nachname|apellidos?|nombre
  |prénom|prenom|cognome|nazwisko|imi[ęe]|jméno|nome|naam|фамилия|имя|пациент
  |m\.?r\.?n(?![a-z])|d\.?[o0]\.?b(?![a-z])|birth|born|geb(?:oren|urtsdatum|\.)|née?\s?le|nacido|nato\s|birthday
  |acc(?:ession|n|\#)(?![a-z])|acc?\.?\s?(?:no|num|\#|nr)|ssn\b|nhs\b|chi\s?no
  |(?:exam|study|visit|case|order|req|chart|hosp|unit|stud)[\s._]*(?:id|no|nr|\#|num(?:ber)?)\b
  |ref(?:erring)?\.?\s?(?:phys|dr|md|by)|referr|physician|operator|sonographer|technologist|radiolog
  |perf(?:orming)?\.?\s?(?:phys|dr|by)|attending|institution|address|adresse|phone|tel(?:ephone)?\b
  |patient|paciente|paziente|pacjent|patiente?n
)
|(?<![^\W\d_])(?:name|nom|id|i\.d|pid|sex|age|dr|tech|oper|user|by|tel|fax|ph|acc|ref|phys|hosp|inst
  |mr|rm|room|ward|bed|ssn|pat|pt|dob|mrn|имя|фио)\s*[:：\#]
|^(?:name|id|pid|fax|hosp)\.?$
|姓\s?名|患\s?者|病\s?人|病\s?历|病\s?歴|病\s?案|住院|门诊|門診|检查号|檢查號|登记号|登記號|影像号
|影像號|编号|編號|号码|流水号|床号|床號|生年|出生|氏\s?名|カルテ|様|先生|医師|醫師|医生|醫生|技師|技师
|电话|電話|地址|住所|身份|身分|年龄|年齡|姓别|操作者|申请
|患者|診察券|受診|フリガナ|ふりがな"""
"""Labels of identifiers. A bare word counts with a colon behind it, or alone in its box."""

PLACES = r"""
h[o0]sp[il1]ta[l1]|(?<![a-z])hosp\b|kl[il1]n[il1]k|c[l1][il1]n[il1][ck](?!al)|clínic|clinique
|h[ôo]pital|krankenhaus|ospedale|szpital|nemocnice|sykehus|sjukhus|ziekenhuis|sairaala|kórház
|infirmary|sanator|polyclin|poliklin|spital(?![a-z])
|med(?:ical|\.|izin\w*)?\s*(?:ctr|cent(?:er|re|rum))|health\s?(?:care|system|cent)|healthcare
|universit|univ\.|université|ambulator|radiology\s(?:assoc|group|cent|dep)|imaging\s(?:cent|assoc)
|institute|institut\s|praxis|(?<![a-z])chu\b|(?<![a-z])nhs\b|centro\s(?:m|de\s)
|医院|醫院|病院|医科|醫科|大学|大學|卫生|衛生|诊所|診所|診療|クリニック|医療|センター|保健院|医学部"""
"""Words of which hospitals' names are made."""

MAKERS = r"""
(?<![^\W\d_])(?:philips|siemens|ge|toshiba|canon|samsung|hitachi|fujifilm|agfa|carestream|hologic
  |shimadzu|mindray|konica\s?minolta|esaote)
\s+(?:health(?:care|ineers)|medical(?:\s+systems?)?|medison)(?![^\W\d_])"""
"""Makers of devices, whose names have words of hospitals' names."""

SHORT = frozenset(
    """
    psla pssa ap2 ap3 ap4 lax sax ias lvedv lvesv lvidd lvids ivsd lvpwd lad lcx rca pda cca ica eca
    cfa sfa gsv ssv mb mbe sri obs vas crd tcd ven rao lao cran caud ffdm
    mm cm m um nm hz khz mhz ghz db kv kvp ma mas mah ms s sec min h fps hu mgy gy cgy dgy
    mgycm cm2 cm3 mm2 mm3 ml dl l cc g kg lb in ft bpm bpi mmhg mm/hg deg rad px pix dpi w mw
    cd x f fr mi ti tis tib tic tls gn gain dr pwr ao ap pa rl lr lat ll rll lll rul lul rml lt
    rt r a p sag cor tra trans ax obl axi acq ser se im img no fov mtx nex nsa tr te et etl
    flip fa thk sl spc gap loc pos wl ww wc ws lvl win zoom mag filt dfov sfov std bone soft
    lung brain ctdi dlp ctdivol prf cg wf sv svd pw cw cf cpa cdi pd bmode mmode 2d 3d 4d thi
    fh hr rr bp ecg ekg spo2 edv psv ri ef lv rv la ra ivc svc aorta ivs lvot rvot rvsp tapse
    vti pht dop dopp col map persist per comp dyn rng freq hgen res pen low med high off on
    auto nml opt gen abd ob gyn msk vasc card thy brst gs crl bpd hc ac fl efw afi ga edd lmp
    sd avg dia vol area dist len wid dep depth foc pct st slice seq cine loop live frz frm
    frame pre post con noncon scout topo loca lo sup inf ant prox mlo lcc rcc lmlo rmlo lm xccl
    sid sod sdd ei di exi s-value upright supine prone erect portable decub swan hfs ffs hfp
    ffp iso kern rpi lpi rai lai fp tgc dvi ppi ips bw bwid rec avi jpg dcm pla psax plax a2c
    a3c a4c a5c ssn subc scv ed es mva mvp mr ar as ai pi mv av tv pv dt e e/a e' a' s' c hd
    thr harm sra crs xres tvi q-scan nr nd fx rot tilt ang angle swi flair dwi adc t1 t2 t1w
    t2w pdw stir fse tse gre fgre mpr mip vr ct us cr dx mg xa pt rf ot sc pet spect suv cpm
    kcnt cts kcts max mean roi dev z q k n b d i j o t u v y % ° x-ray
    """.split()  # noqa: SIM905
)
"""Units, and what consoles shorten; lower case."""

WORDS = frozenset(
    """
    left right anterior posterior lateral medial superior inferior proximal distal upper lower
    head feet foot hand wrist elbow shoulder knee ankle hip pelvis abdomen chest thorax neck
    skull spine cervical thoracic lumbar sacral femur tibia fibula humerus radius ulna patella
    finger toe liver kidney renal spleen pancreas gallbladder bladder uterus ovary testis
    prostate thyroid breast heart cardiac echo adult pediatric fetal fetus aorta carotid vein
    artery jugular portal hepatic long short axis transverse sagittal coronal axial oblique
    longitudinal midline view views supine prone erect upright portable standing sitting
    decubitus inspiration expiration flexion extension neutral weight bearing stress rest
    contrast without with and for the per out not of gain depth focus frequency power frame
    rate dynamic range persistence map filter zoom scale doppler color colour pulsed continuous
    wave harmonic tissue general detail resolution penetration preset probe transducer linear
    convex curved phased sector array active live freeze cine loop image images series slice
    thickness spacing location window level center width exposure index time dose field tube
    current voltage target screen film mode manual automatic start stop end total velocity
    gradient pressure mean peak systolic diastolic volume area distance circumference diameter
    length height ratio angle average report page summary measurement measurements calc result
    results trace table exam study protocol standard routine localizer scout reference cursor
    caliper marker copyright rev smpte asc desc diam hpen cist adv avg pause record print store
    next previous review compare invert rotate reset annotation text body pattern lesion mass
    cyst nodule tumor fracture normal abnormal benign malignant biopsy needle sample gate steer
    baseline sweep speed slow fast medium high low max min off auto optimal smooth edge enhance
    sharp fundamental elastography compression quality signal noise percent red green blue grey
    gray white black hot iron rainbow spectrum test phantom calibration uniformity grid line
    pair acquisition reconstruction kernel matrix pitch collimation rotation delay phase
    arterial venous delayed precontrast postcontrast bolus tracking monitoring dual energy
    effective lossy lossless compressed jpeg philips siemens toshiba canon samsung mindray
    hitachi aloka esaote fujifilm fuji agfa kodak carestream hologic shimadzu healthineers
    logiq vivid voluson epiq affiniti acuson sequoia antares aplio xario somatom magnetom
    optima signa achieva ingenia brilliance aquilion discovery revolution lightspeed definition
    sonosite zonare supersonic ultrasonix medison diagnostic use only verify correct plate size
    tech spot fluoro digital subtraction angiography injection frames scan scans scanner pulse
    sequence spin turbo fat sat suppressed weighted diffusion perfusion flow encoding venogram
    arteriogram apical parasternal subcostal suprasternal chamber valve mitral aortic tricuspid
    pulmonary atrial ventricular septum septal wall ejection fraction output stroke apex base
    biplane simpson strain crown rump biparietal gestational placenta amniotic fluid cord
    umbilical trimester femoral popliteal brachial subclavian vertebral basilar celiac
    mesenteric iliac saphenous duct common bile pole cortex medulla lobe segment transabdominal
    transvaginal endovaginal transrectal lens iris retina macula optic disc nerve eye fundus
    dermoscopy skin ruler cassette offset units unit minute second hour day week month year
    """.split()  # noqa: SIM905
)
"""Whole words, lower case, that DICOM's own names lack or that are too common to leave to them."""

NAMES = frozenset(
    """
    dob mrn acc pid ssn nhs tel fax pat chi sex age
    russell charles king german shepherd jack rose grant marie james john robert michael
    william david richard thomas mary anna maria jose juan carlos peter paul mark george kim
    lee li wang zhang chen liu yang huang zhao wu zhou park choi jung tanaka sato suzuki yamada
    ivan smith jones brown taylor wilson johnson miller davis martin garcia lopez perez
    martinez hernandez gonzalez rodriguez muller mueller schmidt schneider fischer weber meyer
    wagner becker novak nowak dubois bernard moreau laurent simon clark lewis walker hall allen
    young scott adams baker nelson carter mitchell roberts turner phillips campbell parker
    evans edwards collins stewart morris rogers reed cook morgan bell murphy bailey cooper ward
    cox howard brooks bennett gray hughes graham hamilton albert alexander andrew anthony
    arthur benjamin daniel edward eric frank henry joseph kevin louis lucas nicholas oscar
    patrick philip samuel stephen victor walter elizabeth helen jane julia karen laura linda
    lisa nancy patricia sandra sarah susan victoria emma grace hope joy angel jordan chase drew
    lane dean dale glen cliff rex max ruby pearl ivy lily daisy hazel barrett crohn hodgkin
    wilms ewing paget graves addison cushing parkinson alzheimer doe ann ali amy ben bob cho
    dan don eva fox guo han ian ida jim joe jon kay ken law leo lim lin luo may mia ned ngo pam
    pan ray ron roy sam shi sim son sue sun tan ted tim tom tai uma von wei won woo xie yan yin
    yoo yun zhu zoe name hospital patient physician operator institution address telephone
    """.split()  # noqa: SIM905
)
"""Words that would be in the vocabulary but are persons' names, or announce one."""

HAN_TERMS = tuple(
    sorted(
        """
        左 右 上 下 前 后 後 内 外 侧 側 位 肾 腎 肝 胆 胰 脾 肺 心 脑 腦 胸
        腹 盆 骨 膝 踝 腕 肘 肩 颈 頸 腰 椎 甲状腺 甲状 乳腺 乳房 子宫 子宮 卵巢
        胎儿 胎児 胎心 胎盘 羊水 膀胱 前列腺 血管 动脉 動脈 静脉 静脈 门静脉 颈动脉
        腹部 胸部 头部 頭部 心脏 心臓 肝脏 肝臓 肾脏 腎臓 胆囊 胆嚢 脾脏 胰腺 横切
        纵切 切面 矢状 冠状 轴位 横断 长轴 短轴 縦 横 深度 增益 频率 動態 动态 范围
        聚焦 帧频 图像 画像 层厚 窗宽 窗位 序列 扫描 平扫 增强 造影 正位 侧位 立位
        卧位 仰卧 俯卧 测量 距离 面积 体积 周长 速度 压力 角度 时间 血流 彩色 多普勒
        频谱 高 低 中 开 关 探头 线阵 凸阵 谐波 灰阶 基波 分辨率 机械指数 热指数
        像素 单位 厘米 毫米 秒 次 分 帧 第 张 页 共 期 动脉期 静脉期 延迟期 結果
        结果 最大 最小 平均 标准 常规 模式 右肾 左肾
        """.split(),  # noqa: SIM905
        key=len,
        reverse=True,
    )
)
"""Chinese and Japanese words of consoles and anatomy."""

HAN_SURNAMES = frozenset(
    "王李张張刘劉陈陳杨楊黄黃赵趙吴吳周徐孙孫马馬朱胡郭何林罗羅郑鄭梁谢謝宋唐许許韩韓邓鄧冯馮曹彭曾肖萧蕭田董"
    "潘袁蔡蒋蔣余于杜叶葉程魏苏蘇吕呂丁任卢盧姚沈钟鍾姜崔谭譚陆陸范汪廖石金韦韋贾賈夏付傅方邹鄒熊白孟秦邱侯江"
    "尹薛闫閻阎段雷龙龍黎史陶贺賀毛郝顾顧龚龔邵万萬钱錢覃武戴严嚴莫孔向汤湯欧歐诸諸司上官尉迟佐鈴高橋渡伊山中"
    "小加吉松井木斎斉清阿森池前藤岡後近遠村坂本福太西岩柴原野和三河酒宮内大菊久東南北平安新杉桜谷朴全権柳洪申"
)
"""First characters of Chinese, Japanese and Korean surnames in Han script."""
