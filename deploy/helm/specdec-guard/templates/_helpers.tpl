{{- define "guard.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "guard.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "guard.labels" -}}
{{ include "guard.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "guard.account" -}}
{{- .Values.serviceAccount.name | default (ternary (include "guard.name" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "guard.tokenSecret" -}}
{{- .Values.adminToken.existingSecret | default (printf "%s-admin" (include "guard.name" .)) -}}
{{- end -}}

{{- /* guard.yaml: what the values say, and over it what the chart decides. */ -}}
{{- define "guard.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $_ := set $config "listen" (merge (dict "host" "0.0.0.0" "port" 8000) ($config.listen | default dict)) -}}
{{- $_ := set $config "admin" (merge (dict "host" "0.0.0.0" "port" 8001) ($config.admin | default dict)) -}}
{{- $access := dict "admin_token_file" "/etc/guard/admin/token" -}}
{{- $_ := set $config "access" (merge $access ($config.access | default dict)) -}}
{{- if eq .Values.mode "sidecar" -}}
{{- $url := printf "http://127.0.0.1:%d" (int .Values.sidecar.backendPort) -}}
{{- $own := dict "url" $url "name" "local" "engine" .Values.sidecar.engine -}}
{{- $_ := set $config "upstreams" (list (merge $own (first ($config.upstreams | default (list dict))))) -}}
{{- else if not $config.upstreams -}}
{{- fail "config.upstreams: name at least one backend, such as {url: http://vllm:8000}" -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{- define "guard.drain" -}}
{{- int (ceil (float64 (dig "timeouts" "drain" 30 .Values.config))) -}}
{{- end -}}
