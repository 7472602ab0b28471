//go:build !nogcs

package storage

import _ "gocloud.dev/blob/gcsblob" // gs://
