"""The networks that the latency predictor is judged on, as rows: model, input sizes, and what is done to them.

``UNSEEN`` are families that no profile draws from; ``SEEN`` are families that every profile draws from, at other
widths and sizes. ``FRESH`` are like ``UNSEEN``, and nobody looked at which of their kernels are mispredicted: whoever
does, and changes the predictor for it, moves them there. A treatment is ``fp32`` or ``int8`` as it is, ``odd`` or
``odd8`` pruned to odd widths, ``low`` or ``low8`` with layers of low rank; those that end in 8 in int8.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from autocompress.facts import Facts

ROUNDED = frozenset({"int8", "odd8", "low8"})


class About(Facts):
    """What a file of the benchmark is; written beside it. ``kind``: ``cnn``, ``depthwise`` or ``transformer``."""

    name: str
    group: str
    family: str
    kind: str
    precision: str
    treatment: str


@dataclass(frozen=True, kw_only=True)
class Net:
    """One file to be: a timm model at an input size, treated."""

    group: str
    family: str
    kind: str
    model: str
    size: int
    treatment: str

    @property
    def about(self) -> About:
        """What is written beside its file."""
        return About(
            name=f"{self.model}-{self.size}-{self.treatment}",
            group=self.group,
            family=self.family,
            kind=self.kind,
            precision="int8" if self.treatment in ROUNDED else "fp32",
            treatment=self.treatment,
        )


# kind → family → rows of "model size:treatment,treatment size:…".
Rows = Mapping[str, Mapping[str, tuple[str, ...]]]

UNSEEN: Rows = {
    "cnn": {
        "densenet": ("densenet121 64:fp32,int8 96:fp32",),
        "dla": ("dla46_c 128:fp32,odd", "dla34 96:int8,low"),
        "inception": ("inception_v3 96:fp32,int8",),
        "repvgg": ("repvgg_a0 72:fp32,odd,odd8", "repvgg_a1 64:low"),
        "res2net": ("res2net50_14w_8s 64:fp32,int8",),
        "resnest": ("resnest14d 72:fp32,int8",),
        "selecsls": ("selecsls42b 96:int8,low", "selecsls42b 80:odd"),
        "hrnet": ("hrnet_w18_small 64:fp32,int8",),
        "skresnet": ("skresnet18 80:fp32,odd8",),
        "regnet": ("regnetx_002 128:fp32,int8", "regnety_002 112:fp32,low8", "regnetx_004 96:odd"),
        "vovnet": ("ese_vovnet19b_slim 72:fp32,int8,odd",),
        "darknet": ("cs3darknet_s 96:fp32,int8,low",),
        "nfnet": ("nf_regnet_b0 96:fp32", "nf_resnet26 64:int8"),
        "hgnet": ("hgnetv2_b0 112:fp32,int8,low",),
    },
    "depthwise": {
        "xception": ("legacy_xception 80:fp32,int8",),
        "ghostnet": ("ghostnet_050 128:fp32,int8", "ghostnet_100 160:fp32,odd"),
        "mnasnet": ("mnasnet_small 128:fp32,odd", "mnasnet_100 96:int8,low"),
        "fbnet": ("fbnetc_100 112:fp32,odd8",),
        "mixnet": ("mixnet_s 112:fp32,int8",),
        "mobileone": ("mobileone_s0 96:fp32,int8",),
        "rexnet": ("rexnet_100 112:fp32,int8",),
        "lcnet": ("lcnet_050 160:fp32,odd8", "lcnet_100 128:int8"),
        "starnet": ("starnet_s050 160:fp32,odd",),
        "fasternet": ("fasternet_t0 128:fp32,int8",),
        "repghost": ("repghostnet_050 128:fp32,int8",),
        "inception_next": ("inception_next_atto 96:fp32,int8",),
        "convmixer": ("convmixer_768_32 56:fp32,int8",),
        "mambaout": ("mambaout_femto 96:fp32",),
    },
    "transformer": {
        "cait": ("cait_xxs24_224 96:fp32,int8",),
        "pit": ("pit_ti_224 112:fp32,low", "pit_xs_224 96:int8"),
        "levit": ("levit_128s 224:fp32,int8",),
        "xcit": ("xcit_nano_12_p16_224 128:fp32,int8",),
        "edgenext": ("edgenext_xx_small 128:fp32,int8",),
        "mobilevit": ("mobilevit_xxs 128:fp32,int8", "mobilevitv2_050 128:fp32"),
        "fastvit": ("fastvit_t8 96:fp32,int8",),
        "poolformer": ("poolformer_s12 96:fp32,int8",),
        "mixer": ("mixer_s32_224 192:fp32,int8,low", "resmlp_12_224 112:odd8", "gmlp_ti16_224 112:fp32,odd"),
        "swin": ("swin_tiny_patch4_window7_224 112:fp32,int8",),
        "efficientformer": ("efficientformer_l1 224:fp32,int8",),
        "pvt": ("pvt_v2_b0 128:fp32,odd8",),
        "coat": ("coat_lite_tiny 96:fp32,int8",),
        "convit": ("convit_tiny 96:fp32,low",),
        "tiny_vit": ("tiny_vit_5m_224 224:int8",),
        "efficientvit": ("efficientvit_m1 224:fp32,int8", "efficientvit_b0 128:fp32"),
        "visformer": ("visformer_tiny 96:low",),
    },
}

FRESH: Rows = {
    "cnn": {
        "gernet": ("gernet_s 96:fp32,int8",),
        "dpn": ("dpn48b 80:fp32,int8",),
        "rdnet": ("rdnet_tiny 64:fp32",),
        "cspnet": ("cspresnext50 64:fp32,int8",),
        "tresnet": ("tresnet_m 64:fp32",),
        "eca": ("ecaresnet26t 64:fp32,int8", "gcresnext26ts 64:fp32"),
        "resnetv2": ("resnetv2_18 96:fp32,odd8",),
    },
    "depthwise": {
        "aligned_xception": ("xception41 64:fp32",),
        "repvit": ("repvit_m0_9 112:fp32,int8",),
        "mobilenetv4": ("mobilenetv4_conv_small 160:fp32,int8,odd",),
        "hardcorenas": ("hardcorenas_a 128:fp32,odd8",),
        "spnasnet": ("spnasnet_100 112:fp32,int8,low",),
        "convformer": ("convformer_s18 64:int8",),
    },
    "transformer": {
        "shvit": ("shvit_s1 224:fp32,int8",),
        "botnet": ("eca_botnext26ts_256 128:int8",),
        "crossvit": ("crossvit_tiny_240 120:fp32",),
        "coatnet": ("coatnet_pico_rw_224 96:fp32,int8", "maxvit_pico_rw_256 96:int8"),
        "volo": ("volo_d1_224 96:fp32",),
        "gcvit": ("gcvit_xxtiny 96:fp32,int8",),
        "mvitv2": ("mvitv2_tiny 96:fp32",),
        "swiftformer": ("swiftformer_xs 128:fp32,int8",),
        "efficientformerv2": ("efficientformerv2_s0 128:fp32,int8",),
        "davit": ("davit_tiny 96:fp32",),
        "focalnet": ("focalnet_tiny_srf 96:fp32,int8",),
    },
}

SEEN: Rows = {
    "cnn": {
        "resnet": (
            "resnet10t 88:fp32,odd,low8", "resnet14t 104:int8,odd8", "resnet18 72:fp32,odd,low", "resnet18 136:int8",
            "resnet26 80:fp32,int8", "resnet34 64:odd8,low", "resnet18d 120:int8", "resnet50 64:fp32",
        ),
    },
    "depthwise": {
        "mobilenetv2": (
            "mobilenetv2_035 152:fp32,odd8", "mobilenetv2_050 104:int8,odd", "mobilenetv2_075 120:fp32,int8",
            "mobilenetv2_100 88:fp32,odd,low8", "mobilenetv2_140 72:int8",
        ),
        "mobilenetv3": (
            "mobilenetv3_small_050 136:fp32,odd8", "mobilenetv3_small_075 152:fp32,int8,odd",
            "mobilenetv3_small_100 168:int8,low", "mobilenetv3_large_075 104:fp32,int8",
            "mobilenetv3_large_100 120:odd,odd8",
        ),
        "mbconv": (
            "efficientnet_b0 96:fp32,int8", "efficientnet_lite0 128:odd,odd8,low", "tinynet_d 128:fp32,int8",
            "tinynet_b 112:odd",
        ),
        "convnext": (
            "convnext_atto 72:fp32,int8", "convnext_atto 104:low", "convnext_femto 88:fp32,odd8",
            "convnext_pico 64:int8",
        ),
    },
    "transformer": {
        "vit": (
            "vit_tiny_patch16_224 144:fp32,int8", "vit_tiny_patch16_224 176:odd,low8",
            "vit_small_patch32_224 160:fp32,int8",
            "vit_small_patch16_224 80:low,odd8", "vit_xsmall_patch16_clip_224 128:int8",
        ),
    },
}  # fmt: skip


def nets(group: str, rows: Rows) -> Iterator[Net]:
    """Each file of ``rows``."""
    for kind, families in rows.items():
        for family, lines in families.items():
            for line in lines:
                model, *sizes = line.split()
                for size, treatments in (each.split(":") for each in sizes):
                    for treatment in treatments.split(","):
                        yield Net(
                            group=group, family=family, kind=kind, model=model, size=int(size), treatment=treatment
                        )
