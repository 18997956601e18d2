"""The presentation contexts that are proposed for C-GET."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from dicomweb.syntaxes import (
    HTJ2K,
    HTJ2K_LOSSY,
    HTJ2K_RPCL,
    JPEG_2000,
    JPEG_2000_LOSSY,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    JPEG_LS_NEAR,
    JPEG_XL,
    MPEG,
    RLE,
)
from dimse.part10 import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT
from dimse.scu import STUDY_ROOT_GET, Proposal
from dimse.upper_layer import MOST_CONTEXTS
from pynetdicom import sop_class as classes

# One context for each, so that everything comes as the archive has it: an acceptor chooses one of a context's.
_ALONE = (
    EXPLICIT,
    IMPLICIT,
    JPEG_BASELINE,
    JPEG_LOSSLESS_SV1,
    JPEG_2000,
    JPEG_LS,
    JPEG_2000_LOSSY,
    JPEG_EXTENDED,
    RLE,
    JPEG_LS_NEAR,
    JPEG_LOSSLESS,
    BIG_ENDIAN,
    DEFLATED,
    HTJ2K,
    HTJ2K_RPCL,
    HTJ2K_LOSSY,
    *JPEG_XL,
    *MPEG,
)
# What an archive that doesn't say its SOP classes is likely to have: half as many as there is room for contexts.
_LIKELY = (
    classes.CTImageStorage,
    classes.MRImageStorage,
    classes.SecondaryCaptureImageStorage,
    classes.ComputedRadiographyImageStorage,
    classes.DigitalXRayImageStorageForPresentation,
    classes.UltrasoundImageStorage,
    classes.UltrasoundMultiFrameImageStorage,
    classes.XRayAngiographicImageStorage,
    classes.XRayRadiofluoroscopicImageStorage,
    classes.NuclearMedicineImageStorage,
    classes.PositronEmissionTomographyImageStorage,
    classes.DigitalMammographyXRayImageStorageForPresentation,
    classes.EnhancedCTImageStorage,
    classes.EnhancedMRImageStorage,
    classes.GrayscaleSoftcopyPresentationStateStorage,
    classes.KeyObjectSelectionDocumentStorage,
    classes.BasicTextSRStorage,
    classes.EnhancedSRStorage,
    classes.ComprehensiveSRStorage,
    classes.XRayRadiationDoseSRStorage,
    classes.EncapsulatedPDFStorage,
    classes.RTImageStorage,
    classes.RTDoseStorage,
    classes.RTStructureSetStorage,
    classes.RTPlanStorage,
    classes.RTIonPlanStorage,
    classes.SegmentationStorage,
    classes.SpatialRegistrationStorage,
    classes.RawDataStorage,
    classes.BreastTomosynthesisImageStorage,
    classes.DigitalXRayImageStorageForProcessing,
    classes.DigitalMammographyXRayImageStorageForProcessing,
    classes.DigitalIntraOralXRayImageStorageForPresentation,
    classes.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    classes.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    classes.MultiFrameTrueColorSecondaryCaptureImageStorage,
    classes.MultiFrameSingleBitSecondaryCaptureImageStorage,
    classes.VLEndoscopicImageStorage,
    classes.VideoEndoscopicImageStorage,
    classes.VLMicroscopicImageStorage,
    classes.VLPhotographicImageStorage,
    classes.VLWholeSlideMicroscopyImageStorage,
    classes.OphthalmicPhotography8BitImageStorage,
    classes.OphthalmicTomographyImageStorage,
    classes.TwelveLeadECGWaveformStorage,
    classes.GeneralECGWaveformStorage,
    classes.AmbulatoryECGWaveformStorage,
    classes.HemodynamicWaveformStorage,
    classes.EnhancedXAImageStorage,
    classes.EnhancedXRFImageStorage,
    classes.EnhancedPETImageStorage,
    classes.XRay3DAngiographicImageStorage,
    classes.XRay3DCraniofacialImageStorage,
    classes.EnhancedUSVolumeStorage,
    classes.MRSpectroscopyStorage,
    classes.MammographyCADSRStorage,
    classes.ChestCADSRStorage,
    classes.ProcedureLogStorage,
    classes.Comprehensive3DSRStorage,
    classes.SurfaceSegmentationStorage,
    classes.DeformableSpatialRegistrationStorage,
    classes.EncapsulatedCDAStorage,
    classes.RTBeamsTreatmentRecordStorage,
)


@lru_cache(maxsize=1000)
def _proposals(sop_classes: tuple[str, ...]) -> tuple[Proposal, ...]:
    found = [Proposal(STUDY_ROOT_GET, (EXPLICIT, IMPLICIT))]
    room = MOST_CONTEXTS - len(found)
    each = min(room // len(sop_classes), len(_ALONE))
    for sop_class in sop_classes:
        # The last context has all that are left over.
        groups = [(syntax,) for syntax in _ALONE[: each - 1]] + [_ALONE[each - 1 :]]
        found += [Proposal(sop_class, group, is_received=True) for group in groups]
    return tuple(found)


def get_proposals(sop_classes: Sequence[str]) -> tuple[Proposal, ...]:
    """Return what to propose so that instances of these SOP classes, or of all that are likely, come as they are."""
    chosen = tuple(sop_classes) or tuple(map(str, _LIKELY))
    return _proposals(chosen[: MOST_CONTEXTS - 1])
