package iot

import (
	"encoding/json"
	"strings"
)

// SBOM is the software bill of materials of a package version: an archive of documents, each of which is
// validated in the background (registry spec §10.3).
type SBOM struct {
	Location S3Location   `json:"location"`
	Status   SBOMStatus   `json:"status"`
	Results  []SBOMResult `json:"results,omitempty"` // by the names of the files
	// Association is the number of the association that is validated: a result for an earlier one is none.
	Association int64 `json:"association"`
}

// SBOMStatus is how far the validation of an archive, or of a document, has come.
type SBOMStatus string

// The statuses.
const (
	SBOMInProgress SBOMStatus = "IN_PROGRESS"
	SBOMSucceeded  SBOMStatus = "SUCCEEDED"
	SBOMFailed     SBOMStatus = "FAILED"
)

// SBOMResult is what came of the validation of a document.
type SBOMResult struct {
	File    string     `json:"file"`
	Status  SBOMStatus `json:"status"`
	Error   string     `json:"error,omitempty"` // IncompatibleFormat or SizeExceeded
	Message string     `json:"message,omitempty"`
}

// Why a document is not valid, in AWS's own words.
const (
	IncompatibleFormat = "INCOMPATIBLE_FORMAT"
	SizeExceeded       = "FILE_SIZE_LIMIT_EXCEEDED"
)

// CheckSBOM validates a document: it must be SPDX 2 or 3, or CycloneDX 1, in JSON.
func CheckSBOM(file string, text []byte) SBOMResult {
	var doc struct {
		BOMFormat   string          `json:"bomFormat"`
		SpecVersion string          `json:"specVersion"`
		SPDXVersion string          `json:"spdxVersion"`
		SPDXID      string          `json:"SPDXID"`
		Context     json.RawMessage `json:"@context"`
		Graph       []any           `json:"@graph"`
	}
	fails := func(why string) SBOMResult {
		return SBOMResult{File: file, Status: SBOMFailed, Error: IncompatibleFormat, Message: why}
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return fails("The document is not a JSON object as SPDX and CycloneDX have it.")
	}
	switch {
	case doc.BOMFormat == "CycloneDX":
		if !strings.HasPrefix(doc.SpecVersion, "1.") {
			return fails("The specVersion of a CycloneDX document must be 1.x.")
		}
	case doc.SPDXVersion != "":
		if !strings.HasPrefix(doc.SPDXVersion, "SPDX-2.") || doc.SPDXID != "SPDXRef-DOCUMENT" {
			return fails("An SPDX document has an spdxVersion of SPDX-2.x and the SPDXID SPDXRef-DOCUMENT.")
		}
	case strings.Contains(string(doc.Context), "spdx.org/rdf/3"):
		if len(doc.Graph) == 0 {
			return fails("The @graph of an SPDX 3 document must not be empty.")
		}
	default:
		return fails("The document is neither SPDX nor CycloneDX.")
	}
	return SBOMResult{File: file, Status: SBOMSucceeded}
}
