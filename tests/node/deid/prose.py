"""Sentences of reports in which nobody is named: everything in them must stay as it is.

Radiology, pathology, cardiology, dermatology and what machines write; with eponyms, genes, doses,
classifications, times and measures, which look like names, numbers and dates.
"""

from __future__ import annotations

ENGLISH = """
The cardiac silhouette is mildly enlarged with a cardiothoracic ratio of 0.56.
No focal consolidation, pleural effusion or pneumothorax is seen.
There is a 7 mm ground-glass nodule in the right upper lobe, unchanged since the prior examination.
Impression: Fleischner follow-up in 6 to 12 months is recommended.
Multiplanar T1, T2, FLAIR and DWI sequences were obtained at 3.0 T before and after gadolinium.
The ventricles and sulci are normal in size for the patient's age.
Small Baker cyst measuring 3.2 x 1.4 cm behind the medial head of the gastrocnemius.
Colles fracture of the distal radius with dorsal angulation of 15 degrees.
Hill-Sachs deformity and Bankart lesion after anterior shoulder dislocation.
Findings are consistent with Crohn disease of the terminal ileum.
Invasive ductal carcinoma, Nottingham grade 2 (3+2+2), ER 90 %, PR 40 %, HER2 1+.
Prostatic adenocarcinoma, Gleason score 3+4=7, grade group 2, in 4 of 12 cores.
Reed-Sternberg cells are present; CD15 and CD30 are positive, CD45 is negative.
Breslow thickness 1.2 mm, Clark level IV, no ulceration, mitoses 2 per square millimetre.
Barrett mucosa without dysplasia, Prague C2M4.
Left ventricular ejection fraction 55 % by Simpson's method; no regional wall motion abnormality.
E/A ratio 0.8, E/e' 12, TAPSE 21 mm, estimated PASP 32 mmHg.
Mild aortic stenosis with a peak velocity of 2.4 m/s and a mean gradient of 12 mmHg.
Sinus rhythm at 72 beats per minute, PR 160 ms, QRS 92 ms, QTc 412 ms.
Agatston score 134, at the 75th percentile for age and sex.
The left main is free of disease; the LAD shows a 40 % stenosis in its middle third.
Status post CABG with patent LIMA to LAD and occluded SVG to RCA.
DLP 345.6 mGycm, CTDIvol 8.2 mGy, 120 kVp, 210 mAs, kernel B30f, slice thickness 1.25 mm.
Contrast: 80 ml of iohexol 350 mgI/ml at 4 ml/s, saline chaser 40 ml.
AP portable chest, erect, 10:42, FFD 110 cm, 85 kV, 2.5 mAs.
MI 1.1 TIs 0.4 DR 60 dB FR 38 Hz Depth 15.0 cm.
BI-RADS 4B; ultrasound-guided core biopsy is advised.
PI-RADS 5 lesion in the left peripheral zone at the mid gland, ADC 610.
LI-RADS LR-5 observation in segment VIII, 24 mm, with washout and capsule.
TI-RADS TR4 nodule in the lower pole of the left lobe, 14 x 9 x 11 mm.
Lung-RADS 2, continue annual screening with low-dose CT.
L4/5 disc protrusion with mild narrowing of the left lateral recess; L5/S1 is unremarkable.
No evidence of deep venous thrombosis from the common femoral to the popliteal vein.
Doppler shows a resistive index of 0.68 in the arcuate arteries, with hepatopetal portal flow.
The common bile duct measures 5 mm; the gall bladder is thin walled without stones.
Horseshoe kidney with mild dilatation of the right renal pelvis.
Brown tumour of the mandible in secondary hyperparathyroidism.
Gray-white matter differentiation is preserved; no mass effect or midline shift.
Long segment of bowel wall thickening with comb sign and mural stratification.
Hand, PA and oblique: erosions of the second and third metacarpal heads.
Rice bodies in the wrist joint; the median nerve is normal in calibre.
White matter hyperintensities, Fazekas grade 2.
Green's function, Bland-Altman analysis and Dice coefficient were computed off line.
The study was read in comparison with the outside CT of the abdomen and pelvis.
May represent a small haemangioma; will follow up in June if symptoms persist.
The mark on the skin is old; the wound is closed and dry.
Page 2 of 3. End of report. Electronically verified.
Two fragments of tan tissue, 0.4 and 0.6 cm, submitted entirely in cassette A1.
Ki-67 20 %, p53 wild type, MLH1/PMS2/MSH2/MSH6 retained.
BRCA1 c.5266dupC p.(Gln1756Profs*74), class 5, heterozygous.
EGFR exon 19 deletion p.E746_A750del, allele frequency 23 %.
pT2 pN1a(2/17) L1 V0 Pn0 R0, stage IIIA by the eighth edition.
Wallace rule of nines: 18 % of body surface; Jackson burn model applied.
Virchow node enlarged, 18 mm; Ann Arbor stage IIIB.
Paget disease of bone, left hemipelvis; Looser zones are not seen.
Hounsfield units 35 native, 78 arterial, 92 portal venous, 61 delayed.
Foley catheter in place, Hickman line tip in the right atrium, Dobhoff tube below the diaphragm.
Whipple procedure seven years ago, now Kehr sign and Murphy sign negative.
Child-Pugh A, MELD 9, ECOG 1, Karnofsky 80.
Harris hip score 88, Kellgren-Lawrence grade 3, Garden type II.
Kerley B lines and Westermark sign are absent; Hampton hump is not seen.
Dermoscopy: atypical network, blue-white veil, irregular streaks; Fitzpatrick type II.
TR 4500 ms, TE 90 ms, FOV 230 mm, matrix 320 x 256, NEX 2, b 0, 500 and 1000 s/mm2.
SUVmax 8.4 in the left hilum, blood pool 1.9, liver 2.6; Deauville score 4.
Injected 18F-FDG 245 MBq, glucose 5.4 mmol/l, uptake 62 min.
Compared to the study of the same day, the tube was withdrawn by 2 cm.
Take 5 mg twice daily for 10 days, then 2.5 mg once daily.
Vital signs: BP 132/84, HR 78, RR 16, T 36.8, SpO2 97 %.
Hb 13.2 g/dl, WBC 6.7, PLT 245, CRP 3, creatinine 0.9, eGFR > 60.
Image 34 of series 5, window 400, level 40, zoom 1.5, algorithm STANDARD.
""".strip().splitlines()

MACHINES = """
ABD^ROUTINE
THORAX 1.0 B70f
t2_tse_sag_384
ep2d_diff_3scan_trace_p2_ADC
AX T2 FLAIR
COR STIR LT KNEE
Localizer
MPR Cor 3mm
CTA HEAD NECK W WO CONTRAST
3D MIP ROT
Philips Medical Systems
SIEMENS SOMATOM Definition AS+
GE MEDICAL SYSTEMS Discovery MR750w
syngo CT VA48A
ORIGINAL PRIMARY AXIAL CT_SOM5 SPI
HEAD FIRST SUPINE
R CC MAG
LMLO
Chest PA AND LATERAL
ECG gated 75%
Vol. 80 ml Ultravist 370
Dose Report
Patient Protocol
Screen Save
PhotoShop CS2
XR FOOT 3 VIEWS LEFT
US BREAST LIMITED RT
MAMMO SCREENING BILAT TOMO
NM BONE SCAN WHOLE BODY
FLUORO UPPER GI W BA
IVUS PULLBACK 0.5 mm/s
Ser 4, Im 12/48
WL 40 WW 400
kVp 120 mA 250 ms 500
FFS -140.5 Gantry 0.0
Zoom 112% Scale 1:1
Aperio Image Library v11.2.1
46000x32914 [42673,5576 2220x2967] (240x240) JPEG/RGB Q=30
AppMag = 20|MPP = 0.4990|Left = 25.691574
Hamamatsu NanoZoomer 40x
H&E, PAS, Ki-67 (MIB-1), 1:200
""".strip().splitlines()

GERMAN = """
Kein Nachweis eines pneumonischen Infiltrates oder eines Pleuraergusses.
Herz grenzwertig groß, keine pulmonalvenöse Stauung.
Im Vergleich zur Voruntersuchung unveränderter Rundherd im linken Oberlappen, 8 mm.
Regelrechte Darstellung der intrakraniellen Gefäße in der TOF-Angiographie.
Zustand nach Hüft-TEP rechts ohne Zeichen der Lockerung.
Mäßige Gonarthrose mit medialer Gelenkspaltverschmälerung, Kellgren-Lawrence Grad 2.
Bandscheibenvorfall L5/S1 links mit Kompression der Wurzel S1.
Die Leber ist homogen, die Gallenblase steinfrei, der Ductus choledochus nicht erweitert.
Invasives Mammakarzinom, nicht spezieller Typ, G2, ER 90 %, PR 60 %, HER2-negativ.
Tubulovillöses Adenom mit geringgradiger intraepithelialer Neoplasie.
Maligner Melanom, Tumordicke nach Breslow 0,9 mm, Clark-Level III.
Linksventrikuläre Ejektionsfraktion 58 %, keine Wandbewegungsstörung.
Frage nach Fraktur nach Sturz auf die rechte Hand.
Kleine Zyste im rechten Ovar, am ehesten funktionell, Kontrolle im Mai empfohlen.
Lange Strecke der Wandverdickung im Colon sigmoideum.
Der Katheter liegt mit der Spitze in der oberen Hohlvene.
Ein gut abgrenzbarer, glatt berandeter Herd in Segment VI.
Fettgewebe weiß, Muskel braun, Kapsel grau und derb.
Koch-Weeks-Bazillen nicht nachweisbar; Ziehl-Neelsen-Färbung negativ.
Morbus Bechterew mit Syndesmophyten und Sakroiliitis beidseits.
Technik: Spiral-CT, 1,25 mm Schichtdicke, 80 ml Kontrastmittel intravenös.
Beurteilung: altersentsprechender Befund ohne Hinweis auf frische Ischämie.
Keine Lymphknotenvergrößerung axillär, mediastinal oder hilär.
Unauffällige Darstellung von Milz, Pankreas und beiden Nieren.
Zufallsbefund: Schilddrüsenknoten rechts, sonographische Abklärung empfohlen.
Klinische Angaben: Husten seit drei Wochen, Fieber bis 39 Grad.
Röntgen Thorax in zwei Ebenen im Stehen, 125 kV.
Die Patientin wurde über die Untersuchung aufgeklärt.
Baker-Zyste von 3,2 cm in der Kniekehle.
Hautlappen von 12 x 8 x 4 mm, vollständig eingebettet.
""".strip().splitlines()

FRENCH = """
Absence d'épanchement pleural ou péricardique.
Silhouette cardiaque de taille normale, sans foyer parenchymateux.
Nodule de 6 mm du lobe supérieur droit, stable par rapport à l'examen précédent.
Hernie discale postéro-latérale gauche en L4-L5 avec conflit radiculaire.
Le foie est de taille normale, de contours réguliers, sans lésion focale.
Carcinome canalaire infiltrant de grade II selon Elston et Ellis.
Adénocarcinome prostatique, score de Gleason 7 (4+3).
Fraction d'éjection du ventricule gauche estimée à 60 % en Simpson biplan.
Fracture de Pouteau-Colles du poignet droit, non déplacée.
Maladie de Crohn iléale avec épaississement pariétal étendu.
Indication : douleurs abdominales depuis trois jours, fièvre à 38,5.
Technique : acquisition hélicoïdale après injection de 90 ml de produit de contraste.
Conclusion : pas d'argument en faveur d'une embolie pulmonaire.
La vésicule biliaire est alithiasique, à paroi fine.
Microcalcifications groupées du quadrant supéro-externe, ACR 4.
Kyste poplité de Baker de 28 mm, non rompu.
Aspect normal du mur de la vessie et de la prostate.
Les sinus de la face sont bien pneumatisés.
Contrôle au mois de mai ou juin selon l'évolution clinique.
Le genou droit présente un épanchement de moyenne abondance.
Mélanome à extension superficielle, indice de Breslow 0,7 mm.
Rue de passage du cathéter libre, extrémité en regard de la carène.
Sténose serrée de la carotide interne gauche, estimée à 75 %.
Grand axe du rein droit : 11 cm ; rein gauche : 10,5 cm.
Noter une petite lame d'ascite dans le cul-de-sac de Douglas.
Le patient est connu pour un diabète de type 2 et une hypertension.
Pas de lésion osseuse suspecte sur les coupes réalisées.
Examen réalisé en décubitus dorsal, bras levés.
Le dôme du foie est discrètement surélevé.
Prélèvement de peau de 10 x 6 x 3 mm orienté par un fil à midi.
""".strip().splitlines()

SPANISH = """
No se observan infiltrados ni derrame pleural.
Silueta cardíaca de tamaño normal; aorta elongada y calcificada.
Nódulo pulmonar de 9 mm en el lóbulo inferior izquierdo, sin cambios.
Hernia discal L5-S1 con compromiso de la raíz izquierda.
Hígado de tamaño y morfología normales, sin lesiones focales.
Carcinoma ductal infiltrante, grado histológico 2 de Nottingham.
Adenocarcinoma de próstata, Gleason 3+3=6, en dos de doce cilindros.
Fracción de eyección del 55 % sin alteraciones segmentarias.
Fractura de Colles con desplazamiento dorsal.
Enfermedad de Crohn con afectación del íleon terminal.
Se recomienda control ecográfico en seis meses.
Técnica: adquisición helicoidal tras administrar 100 ml de contraste yodado.
Conclusión: hallazgos compatibles con proceso inflamatorio.
La vesícula biliar es alitiásica y de pared fina.
Microcalcificaciones agrupadas en el cuadrante superoexterno, BI-RADS 4.
Quiste de Baker de 3 cm en el hueco poplíteo.
Leve derrame articular en la rodilla derecha.
Melanoma de extensión superficial, Breslow 1,1 mm.
Vía aérea permeable; tráquea central.
Calle de salida del ventrículo izquierdo sin obstrucción.
Estenosis carotídea izquierda del 70 %.
Dolor torácico de tres horas de evolución, sin fiebre.
El seno maxilar derecho está ocupado.
Lesión pigmentada asimétrica de bordes irregulares.
Paciente con antecedentes de diabetes e hipertensión arterial.
Cruz y campo quirúrgico limpios; bordes libres.
Mayo y junio son los meses indicados para el seguimiento.
Rosa de Bengala negativo; prueba de Mantoux de 12 mm.
Fragmento de piel de 11 x 5 x 4 mm con sutura a las doce.
La sombra de la mano se superpone al campo pulmonar.
""".strip().splitlines()

CHINESE = """
两肺纹理清晰，未见明显实质性病变。
心影大小正常，主动脉结钙化。
右肺上叶见一磨玻璃结节，直径约7毫米，建议随访。
双侧胸腔未见积液，纵隔内未见肿大淋巴结。
肝脏大小形态正常，肝内胆管无扩张。
胆囊壁光滑，腔内未见结石影。
左侧基底节区可见斑片状低密度影。
脑室系统无扩张，中线结构居中。
腰4/5椎间盘突出，硬膜囊受压。
双肾大小正常，未见积水。
甲状腺右叶低回声结节，TI-RADS 4类。
乳腺外上象限簇状钙化，BI-RADS 4B类。
左室射血分数60%，室壁运动未见异常。
前列腺腺癌，Gleason评分3+4=7分。
浸润性导管癌，II级，ER阳性，HER2阴性。
胃镜检查：慢性萎缩性胃炎，幽门螺杆菌阳性。
右膝关节少量积液，半月板后角损伤。
扫描参数：层厚1.25毫米，管电压120千伏。
增强扫描动脉期明显强化，延迟期廓清。
患者咳嗽三周，发热两天，体温38.5度。
与前片比较，病灶较前缩小。
骨质未见明显破坏，关节间隙正常。
皮肤镜：蓝白幕，不规则条纹，建议切除活检。
结论：考虑炎性病变，建议抗炎治疗后复查。
腹部平片未见膈下游离气体。
患者取仰卧位，头先进。
医生建议三个月后复查。
病人一般情况良好，生命体征平稳。
中心静脉导管尖端位于上腔静脉。
子宫大小正常，宫腔内膜厚8毫米。
急诊平扫，未见出血。
主任医师审核后发布。
""".strip().splitlines()

JAPANESE = """
両肺野に明らかな異常陰影を認めません。
心拡大なし、心胸郭比は48%です。
右上葉に7mm大のすりガラス結節を認めます。
胸水および心嚢液の貯留はありません。
肝臓に占拠性病変を認めず、胆管の拡張もありません。
胆嚢に結石を認めます。
左基底核に陳旧性の小梗塞を認めます。
脳室の拡大や正中構造の偏位はありません。
腰椎椎間板ヘルニアを認め、硬膜嚢を圧排しています。
両側腎臓の大きさは正常で水腎症はありません。
甲状腺右葉に低エコー結節を認めます。
左室駆出率は60%で、壁運動異常はありません。
前立腺癌、グリソンスコア3+4=7。
浸潤性乳管癌、ER陽性、HER2陰性。
上部消化管内視鏡検査で慢性胃炎を認めます。
右膝関節に少量の関節液を認めます。
造影剤は100ml、毎秒3mlで投与しました。
前回検査と比較して病変は縮小しています。
明らかな骨折線を認めません。
皮膚科より紹介、色素性病変の精査目的です。
三か月後の経過観察を推奨します。
中心静脈カテーテルの先端は上大静脈にあります。
腹部単純写真で遊離ガスを認めません。
頭部CT検査、単純。
患者は仰臥位で撮影しました。
経過良好、発熱なし。
""".strip().splitlines()

KOREAN = """
양측 폐야에 뚜렷한 침윤이나 흉수는 보이지 않습니다.
심장 크기는 정상이며 대동맥 석회화가 있습니다.
우상엽에 7mm 크기의 간유리 결절이 관찰됩니다.
종격동 림프절 비대는 없습니다.
간의 크기와 음영은 정상입니다.
담낭 결석이 관찰되며 담관 확장은 없습니다.
좌측 기저핵에 오래된 경색이 있습니다.
뇌실 확장이나 중심선 이동은 없습니다.
요추 4-5번 추간판 탈출증이 의심됩니다.
양측 신장에 수신증은 없습니다.
갑상선 우엽에 저에코 결절이 있습니다.
좌심실 박출률은 60%입니다.
전립선암, 글리슨 점수 3+4=7.
침윤성 관암종, 에스트로겐 수용체 양성.
위내시경에서 만성 위염이 확인되었습니다.
우측 무릎 관절에 소량의 삼출액이 있습니다.
조영제 100ml를 정맥 주사하였습니다.
이전 검사와 비교하여 병변이 감소하였습니다.
골절 소견은 없습니다.
석 달 후 추적 검사를 권합니다.
환자는 앙와위로 촬영하였습니다.
복부 단순 촬영에서 유리 가스는 없습니다.
""".strip().splitlines()

RUSSIAN = """
Очаговых и инфильтративных изменений в лёгких не выявлено.
Тень сердца не расширена, аорта уплотнена.
В верхней доле правого лёгкого узелок по типу матового стекла 7 мм.
Плевральный выпот не определяется.
Печень обычных размеров, контуры ровные, желчные протоки не расширены.
В желчном пузыре конкременты до 8 мм.
Срединные структуры головного мозга не смещены.
Грыжа межпозвонкового диска L5-S1 с компрессией корешка.
Почки обычно расположены, чашечно-лоханочная система не расширена.
Фракция выброса левого желудочка 58 % по Симпсону.
Ацинарная аденокарцинома предстательной железы, сумма Глисона 7.
Инвазивная карцинома молочной железы, степень злокачественности 2.
Болезнь Крона с поражением терминального отдела подвздошной кишки.
Перелом лучевой кости в типичном месте со смещением.
Рекомендован контроль через шесть месяцев.
Заключение: данных за острое нарушение мозгового кровообращения нет.
Введено 100 мл контрастного препарата со скоростью 3 мл/с.
Киста Бейкера правого коленного сустава 32 мм.
Увеличенные лимфатические узлы не выявлены.
Жалобы на кашель в течение трёх недель, температура 38,5.
Врач рекомендует повторное исследование в мае.
Меланома, толщина по Бреслоу 1,2 мм.
Щитовидная железа с узлом в правой доле.
Больной обследован в положении лёжа на спине.
""".strip().splitlines()

LANGUAGES = {
    "English": ENGLISH, "machines": MACHINES, "German": GERMAN, "French": FRENCH,
    "Spanish": SPANISH, "Chinese": CHINESE, "Japanese": JAPANESE, "Korean": KOREAN,
    "Russian": RUSSIAN,
}  # fmt: skip
