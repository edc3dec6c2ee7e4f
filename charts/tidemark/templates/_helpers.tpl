{{- /* Name of every object: the release's, with the chart's where it is not in it. */ -}}
{{- define "tidemark.name" -}}
{{- if contains "tidemark" .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-tidemark" (.Release.Name | trunc 44 | trimSuffix "-") -}}
{{- end -}}
{{- end }}

{{- define "tidemark.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "tidemark.name" .) -}}
{{- end }}

{{- define "tidemark.selector" -}}
app.kubernetes.io/name: tidemark
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "tidemark.labels" -}}
{{ include "tidemark.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* Reference of an image; call with (dict "image" VALUES "version" APPVERSION). */ -}}
{{- define "tidemark.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .version) -}}
{{- end -}}
{{- end }}

{{- /* What the operator does in a namespace with pipelines. */ -}}
{{- define "tidemark.rules" -}}
# Pipelines: read them, add and remove the finalizer, write the status.
- apiGroups: [tidemark.dev]
  resources: [analyticspipelines]
  verbs: [get, list, watch, patch]
- apiGroups: [tidemark.dev]
  resources: [analyticspipelines/status]
  verbs: [get, patch]
- apiGroups: [tidemark.dev]
  resources: [analyticspipelines/finalizers]
  verbs: [update]
# Credentials that pipelines name.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch]
{{- if .Values.rbac.grafanaSidecar }}
# The data source of pipelines with spec.grafana.mode Sidecar.
- apiGroups: [""]
  resources: [secrets]
  verbs: [create, patch, delete]
{{- end }}
# The sink of each pipeline.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps, services, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
# The last valid specs of each pipeline.
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
