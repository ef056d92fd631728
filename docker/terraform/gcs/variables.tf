variable "project" {
  description = "The project."
  type        = string
}

variable "bucket" {
  description = "The bucket's name."
  type        = string
}

variable "location" {
  description = "Where the bucket is, such as EUROPE-WEST1."
  type        = string
}

variable "lake_prefix" {
  description = "Where the lakes are: gs://<bucket>/<lake_prefix>…"
  type        = string
  default     = "lakes/"

  validation {
    condition     = can(regex("^[a-z0-9][a-zA-Z0-9._/-]*/$", var.lake_prefix))
    error_message = "The prefix of lakes is a path that ends with a slash, such as lakes/."
  }
}

variable "temporary_prefixes" {
  description = "Where files are that nobody needs for long. Never in, or around, a lake."
  type        = list(string)
  default     = ["tmp/"]

  validation {
    condition     = alltrue([for prefix in var.temporary_prefixes : can(regex("^[a-z0-9].*/$", prefix))])
    error_message = "A prefix of temporary files is a path that ends with a slash, such as tmp/."
  }

  # A rule for lakes/ or for l would take `_sluice/` and the files of tables away.
  validation {
    condition = alltrue([
      for prefix in var.temporary_prefixes :
      !startswith(var.lake_prefix, prefix) && !startswith(prefix, var.lake_prefix)
    ])
    error_message = "Files of lakes, and _sluice/ in them, are not temporary: no rule may cover them."
  }
}

variable "temporary_days" {
  description = "For how many days they are kept."
  type        = number
  default     = 7
}

variable "versioned" {
  description = "Whether the bucket keeps older versions of objects. In lakes they only cost: see README.md."
  type        = bool
  default     = false
}

variable "soft_delete_days" {
  description = "For how many days deleted objects can be had again; 0: not at all."
  type        = number
  default     = 7
}

variable "workloads" {
  description = "Who may become Sluice's account: serviceAccount:<project>.svc.id.goog[<namespace>/<name>]."
  type        = list(string)
  default     = []
}

variable "labels" {
  description = "Labels of the bucket."
  type        = map(string)
  default     = {}
}
